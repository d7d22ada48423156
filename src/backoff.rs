//! How long to wait after failures: full jitter.
//!
//! A pause is drawn evenly from zero to `base × 2^failures`, capped. Full jitter spreads clients
//! that failed together furthest. Source: Marc Brooker, "Exponential Backoff And Jitter", 2015.

use crate::limits::{BACKOFF_BASE_MS, BACKOFF_CAP_MS};

/// The pause in ms after `failures` failures in a row; `random` is in `[0, 1)`.
#[must_use]
pub fn pause_ms(failures: u32, random: f64) -> f64 {
    let exponent = failures.saturating_sub(1).min(32);
    let ceiling = (BACKOFF_BASE_MS * f64::from(2u32).powi(exponent as i32)).min(BACKOFF_CAP_MS);
    (ceiling * random.clamp(0.0, 1.0)).floor()
}

/// Until when a pause lasts that was to end `at_ms`; none where it is over. One that would be longer than any
/// is over as well: the clock was set back since.
#[must_use]
pub fn lasts_until(at_ms: f64, now_ms: f64) -> Option<f64> {
    Some(at_ms).filter(|at| (0.0..=BACKOFF_CAP_MS).contains(&(at - now_ms)) && *at > now_ms)
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::pause_ms;

    #[test]
    fn doubles_up_to_the_cap() {
        let ceilings: Vec<f64> = (1..=11).map(|n| pause_ms(n, 1.0)).collect();
        assert_eq!(&ceilings[..4], &[1_000.0, 2_000.0, 4_000.0, 8_000.0]);
        assert_eq!(ceilings[10], 300_000.0);
        assert_eq!(pause_ms(u32::MAX, 1.0), 300_000.0);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        assert_eq!(pause_ms(3, 0.0), 0.0);
        assert_eq!(pause_ms(3, 0.5), 2_000.0);
    }
}
