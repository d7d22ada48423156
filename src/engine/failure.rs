//! How a request can fail, and what that means for what was in it.

use crate::error::{Code, Error};
use std::rc::Rc;

/// The class of a failed request. None of them marks a mutation as done.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// Nothing came back: no network, a time-out, a connection that broke.
    NoAnswer(Error),
    /// The server could not do it now: 408, 425, 5xx, or an endpoint that is not there.
    Server(Error),
    /// 429, or 503 with `Retry-After`: wait so many ms, or as after a failure.
    Throttled(Option<f64>),
    /// 401.
    Auth,
    /// Any other 4xx: something in the request is at fault.
    Refused {
        /// For programs.
        code: Rc<str>,
        /// For people.
        message: Rc<str>,
        /// 413: its size is.
        too_large: bool,
    },
    /// The answer is not what the protocol says.
    Protocol(Rc<str>),
    /// 410 to a pull: the server does not know the checkpoint.
    CheckpointUnknown,
    /// Our own store failed before anything was sent.
    Store(Error),
    /// We gave it up ourselves.
    Cancelled,
}

impl Failure {
    /// The class of an HTTP status, for a push or a pull.
    #[must_use]
    pub fn from_status(status: u16, retry_after_ms: Option<f64>, code: &str, text: &str) -> Self {
        match status {
            0 => Self::NoAnswer(Error::new(
                Code::Network,
                or(text, "the server cannot be reached"),
            )),
            401 => Self::Auth,
            429 => Self::Throttled(retry_after_ms),
            503 if retry_after_ms.is_some() => Self::Throttled(retry_after_ms),
            410 if code == "checkpoint-unknown" => Self::CheckpointUnknown,
            // A wrong address answers like this to every request: nobody's record is to blame.
            404 | 405 | 408 | 410 | 425 | 426 | 500..=599 => Self::Server(Error::new(
                Code::ServerError,
                format!("the server answered {status}: {}", or(text, code)),
            )),
            400..=499 => Self::Refused {
                code: or(code, "rejected").into(),
                message: or(text, "the server refuses the change").into(),
                too_large: status == 413,
            },
            _ => Self::Protocol(format!("unexpected status {status}").into()),
        }
    }

    /// The error that the app is shown.
    #[must_use]
    pub fn to_error(&self) -> Option<Error> {
        Some(match self {
            Self::NoAnswer(error) | Self::Server(error) | Self::Store(error) => error.clone(),
            Self::Throttled(_) => Error::new(Code::Throttled, "the server asks for a pause"),
            Self::Auth => Error::new(Code::NeedsAuth, "the server refuses the credentials"),
            Self::Refused { message, .. } => Error::new(Code::Rejected, message.as_ref()),
            Self::Protocol(what) => Error::new(Code::ProtocolError, what.as_ref()),
            Self::CheckpointUnknown => Error::new(
                Code::ServerError,
                "the server has forgotten how far we had pulled",
            ),
            Self::Cancelled => return None,
        })
    }
}

fn or<'a>(text: &'a str, fallback: &'a str) -> &'a str {
    if text.is_empty() { fallback } else { text }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::Failure;

    #[test]
    fn the_app_is_told_what_the_server_said_or_else_what_it_means() {
        let said = |failure: Failure| failure.to_error().map(|e| e.message.to_string());
        let refused = |code, text| Failure::from_status(400, None, code, text);
        assert_eq!(
            refused("too-long", "at most 5 letters"),
            Failure::Refused {
                code: "too-long".into(),
                message: "at most 5 letters".into(),
                too_large: false,
            }
        );
        assert_eq!(
            refused("", ""),
            Failure::Refused {
                code: "rejected".into(),
                message: "the server refuses the change".into(),
                too_large: false,
            }
        );
        let broken = Failure::from_status(502, None, "bad-gateway", "");
        assert_eq!(
            said(broken).unwrap(),
            "the server answered 502: bad-gateway"
        );
        assert_eq!(said(refused("", "no")).unwrap(), "no");
        assert_eq!(said(Failure::Cancelled), None, "nobody's fault");
    }

    #[test]
    fn classes_by_status() {
        let class = |status, after| Failure::from_status(status, after, "", "");
        for status in [0, 408, 425, 500, 502, 503, 504, 404, 405, 410] {
            let found = class(status, None);
            assert!(
                matches!(found, Failure::NoAnswer(_) | Failure::Server(_)),
                "{status}: {found:?}"
            );
        }
        assert_eq!(class(401, None), Failure::Auth);
        assert_eq!(class(429, None), Failure::Throttled(None));
        assert_eq!(class(503, Some(2_000.0)), Failure::Throttled(Some(2_000.0)));
        for status in [400, 403, 409, 413, 418, 422] {
            assert!(
                matches!(class(status, None), Failure::Refused { .. }),
                "{status}"
            );
        }
        assert!(matches!(class(302, None), Failure::Protocol(_)));
        assert_eq!(
            Failure::from_status(410, None, "checkpoint-unknown", ""),
            Failure::CheckpointUnknown
        );
    }
}
