//! The hybrid logical clock that dates every mutation.
//!
//! Physical time, corrected by what the server says the time is, and a counter for what happens
//! within one millisecond or while the device's clock stands still or goes back. Its text form
//! sorts by time (docs/PROTOCOL.md). Source: Kulkarni et al., "Logical Physical Clocks", 2014.

use std::rc::Rc;

/// A reading of the clock. Ordered by time, then counter.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Hlc {
    /// Milliseconds since 1970, a whole number.
    pub ms: f64,
    /// Readings within the same millisecond.
    pub counter: u32,
}

/// The last reading that has a text of 13 digits (in the year 2286). A clock beyond it stands there: what is
/// dated must be read again.
pub const MS_MAX: f64 = 9_999_999_999_999.0;

/// Largest difference of a remote clock that is followed: a minute. A device that claims to live
/// in the future must not drag everyone along.
const DRIFT_MAX_MS: f64 = 60_000.0;

impl Hlc {
    /// A reading that was stored: earlier versions could store one that has no text.
    #[must_use]
    pub fn stored(ms: f64, counter: u32) -> Self {
        let ms = ms.clamp(0.0, MS_MAX);
        Self { ms, counter }
    }

    /// The reading that follows `self` at `now_ms`.
    #[must_use]
    pub fn tick(self, now_ms: f64) -> Self {
        let now_ms = now_ms.floor().min(MS_MAX);
        if now_ms > self.ms {
            Self {
                ms: now_ms,
                counter: 0,
            }
        } else if self.counter < 0xffff {
            Self {
                ms: self.ms,
                counter: self.counter + 1,
            }
        } else {
            Self {
                ms: (self.ms + 1.0).min(MS_MAX),
                counter: 0,
            }
        }
    }

    /// The reading that follows `self` at `now_ms`, which is known to be right: a clock that has run
    /// ahead comes back, so that a device that lived in the future does not win for ever.
    #[must_use]
    pub fn tick_known(self, now_ms: f64) -> Self {
        let behind = if self.is_ahead(now_ms) {
            Self::default()
        } else {
            self
        };
        behind.tick(now_ms)
    }

    /// Whether it is of a time that has not come yet.
    #[must_use]
    pub fn is_ahead(self, now_ms: f64) -> bool {
        self.ms > now_ms + DRIFT_MAX_MS
    }

    /// The text after those of all readings that are not ahead of this one.
    #[must_use]
    pub fn end_of_drift(self) -> String {
        let ms = (self.ms + DRIFT_MAX_MS + 1.0).min(MS_MAX);
        Self { ms, counter: 0 }.to_text("")
    }

    /// Takes a remote reading into account, so that what is written after reading it is later.
    #[must_use]
    pub fn witness(self, remote: Self, now_ms: f64) -> Self {
        if remote > self && !remote.is_ahead(now_ms) {
            remote
        } else {
            self
        }
    }

    /// The text form: 13 digits, 4 hexadecimal digits, the client.
    #[must_use]
    pub fn to_text(self, client: &str) -> String {
        format!("{:013}-{:04x}-{client}", self.ms as u64, self.counter)
    }

    /// Reads the text form back.
    #[must_use]
    pub fn parse(text: &str) -> Option<(Self, Rc<str>)> {
        let mut parts = text.splitn(3, '-');
        let (ms, counter) = (parts.next()?, parts.next()?);
        if ms.len() != 13 || counter.len() != 4 {
            return None;
        }
        let ms = ms.parse::<u64>().ok()? as f64;
        let counter = u32::from_str_radix(counter, 16).ok()?;
        Some((Self { ms, counter }, Rc::from(parts.next()?)))
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::Hlc;

    #[test]
    fn moves_forward_while_the_device_clock_goes_back() {
        let first = Hlc::default().tick(2_000.0);
        let second = first.tick(1_000.0);
        assert!(second > first);
        assert!(second.to_text("c") > first.to_text("c"));
    }

    #[test]
    fn stays_in_its_millisecond_while_there_is_room() {
        let first = Hlc::default().tick(2_000.9);
        assert_eq!((first.ms, first.counter), (2_000.0, 0), "whole ones");
        let second = first.tick(2_000.9);
        assert_eq!((second.ms, second.counter), (2_000.0, 1));
        let third = second.tick(2_001.0);
        assert_eq!((third.ms, third.counter), (2_001.0, 0));
    }

    #[test]
    fn a_minute_ahead_is_not_the_future_yet() {
        let at = |ms| Hlc { ms, counter: 0 };
        assert!(!at(61_000.0).is_ahead(1_000.0));
        assert!(at(61_001.0).is_ahead(1_000.0));
    }

    #[test]
    fn an_older_or_equal_remote_reading_changes_nothing() {
        let here = Hlc {
            ms: 1_000.0,
            counter: 5,
        };
        let older = Hlc { counter: 4, ..here };
        assert_eq!(here.witness(older, 1_000.0), here);
        assert_eq!(here.witness(here, 1_000.0), here);
    }

    #[test]
    fn text_round_trips_and_sorts() {
        let hlc = Hlc {
            ms: 1_763_690_000_000.0,
            counter: 300,
        };
        let text = hlc.to_text("client-1");
        assert_eq!(text, "1763690000000-012c-client-1");
        let (back, client) = Hlc::parse(&text).unwrap();
        assert_eq!((back, client.as_ref()), (hlc, "client-1"));
        assert!(Hlc::parse("yesterday").is_none());
        assert!(Hlc::parse("17-00-x").is_none());
        assert!(Hlc::parse("1763690000000-00-x").is_none());
        assert!(Hlc::parse("17-0000-x").is_none());
    }

    #[test]
    fn follows_a_remote_clock_only_within_a_minute() {
        let here = Hlc {
            ms: 1_000.0,
            counter: 0,
        };
        let soon = Hlc {
            ms: 30_000.0,
            counter: 0,
        };
        let absurd = Hlc {
            ms: 9e12,
            counter: 0,
        };
        assert_eq!(here.witness(soon, 1_000.0), soon);
        assert_eq!(here.witness(absurd, 1_000.0), here);
    }

    #[test]
    fn a_clock_beyond_what_has_a_text_stands_at_the_last_reading() {
        let last = Hlc::default().tick(8.64e15);
        for hlc in [last, last.tick(8.64e15), Hlc::stored(1.7e15, 3)] {
            let text = hlc.to_text("c");
            assert_eq!(Hlc::parse(&text).unwrap().0, hlc, "{text}");
            assert!(text.starts_with("9999999999999-"), "{text}");
        }
        let full = Hlc::stored(super::MS_MAX, 0xffff);
        assert!(Hlc::parse(&full.tick(8.64e15).to_text("c")).is_some());
        assert_eq!(last.tick_known(1_000.0).ms, 1_000.0, "it comes back");
    }

    #[test]
    fn comes_back_from_the_future_when_the_time_is_known() {
        let ahead = Hlc::default().tick(9e12);
        assert!(ahead.tick(1_000.0) > ahead);
        let back = ahead.tick_known(1_000.0);
        assert_eq!((back.ms, back.counter), (1_000.0, 0));
        let near = Hlc::default().tick(30_000.0);
        assert!(near.tick_known(1_000.0) > near, "a little ahead is no harm");
    }

    #[test]
    fn a_full_counter_spills_into_the_next_millisecond() {
        let full = Hlc {
            ms: 5.0,
            counter: 0xffff,
        };
        assert_eq!(
            full.tick(5.0),
            Hlc {
                ms: 6.0,
                counter: 0
            }
        );
    }
}
