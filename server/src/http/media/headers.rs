//! What the headers of requests for files say.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::REPR_DIGEST;
use crate::http::problem::Problem;
use crate::limits;
use crate::store::media::{Checksum, Declaration};

/// What an upload's request says: of the file, and which part of it the body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) declared: Declaration,
    /// Empty where the client only asks how far the upload is.
    pub(super) bytes: Range<u64>,
}

/// Reads the headers of an upload.
pub(super) fn part(headers: &HeaderMap) -> Result<Part, Problem> {
    let length = text(headers, &header::CONTENT_LENGTH)?;
    let length = length
        .map(|text| number(text).ok_or_else(|| Problem::malformed("content-length: no number")))
        .transpose()?;
    let (bytes, size) = match text(headers, &header::CONTENT_RANGE)? {
        Some(range) => content_range(range).ok_or_else(|| {
            Problem::malformed(
                "content-range: is `bytes <first>-<last>/<size>` or `bytes */<size>`",
            )
        })?,
        None => {
            let told = "content-length or content-range: one of them tells the file's size";
            let streamed = headers.contains_key(header::TRANSFER_ENCODING);
            // A request with neither has no body: an empty file.
            let length = length.or((!streamed).then_some(0));
            let length = length.ok_or_else(|| Problem::malformed(told))?;
            (0..length, length)
        }
    };
    if length.is_some_and(|length| length != bytes.end - bytes.start) {
        return Err(Problem::malformed(
            "content-range: is not as long as the body",
        ));
    }
    let sha256 = text(headers, &REPR_DIGEST)?.and_then(repr_digest);
    let sha256 = sha256.ok_or_else(|| {
        Problem::malformed("repr-digest: is `sha-256=:<base64>:`, of the whole file")
    })?;
    Ok(Part {
        declared: Declaration {
            content_type: content_type(headers)?,
            size,
            sha256,
        },
        bytes,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let value = headers.get(name).map(|value| value.to_str());
    let value = value.transpose();
    value.map_err(|_| Problem::malformed(format!("{name}: is not plain text")))
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What does not fit a signed number could not be stored.
    let number = digits.then(|| text.parse::<u64>().ok()).flatten()?;
    (number <= limits::VERSION_MAX).then_some(number)
}

fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let size = number(size)?;
    if range == "*" {
        return Some((0..0, size));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// The SHA-256 among the digests; others may stand beside it.
fn repr_digest(text: &str) -> Option<Checksum> {
    let digest = text.split(',').find_map(|member| {
        let encoded = member.trim().strip_prefix("sha-256=:")?;
        encoded.strip_suffix(':')
    })?;
    let bytes = BASE64_STANDARD.decode(digest).ok()?;
    bytes.try_into().ok().map(Checksum)
}

/// As it is written in `Repr-Digest`.
pub(super) fn digest_text(checksum: Checksum) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(checksum.0))
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(text) = text(headers, &header::CONTENT_TYPE)? else {
        return Ok("application/octet-stream".into());
    };
    let shaped = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    if shaped && text.len() <= limits::MEDIA_TYPE_BYTES_MAX {
        Ok(text.into())
    } else {
        let most = limits::MEDIA_TYPE_BYTES_MAX;
        let detail = format!("content-type: is `type/subtype`, of at most {most} bytes");
        Err(Problem::malformed(detail))
    }
}

/// Which bytes are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All: no range was named, or none that this server serves (several, or another unit).
    All,
    /// These.
    Some(Range<u64>),
    /// None that exist.
    None,
}

/// Reads `Range` for a file of so many bytes.
pub(super) fn range(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text
        .trim()
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Asked::All;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => first..size,
        // The last so many.
        (None, Some(count)) if first.is_empty() => {
            if count == 0 {
                return Asked::None;
            }
            size.saturating_sub(count)..size
        }
        _ => return Asked::All,
    };
    if range.start >= size {
        Asked::None
    } else {
        Asked::Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";

    fn read(pairs: &[(&'static str, &str)]) -> Result<Part, Problem> {
        let digest = [("repr-digest", DIGEST)];
        let pairs = digest.iter().chain(pairs);
        part(
            &pairs
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn parts_say_where_they_belong() {
        let whole = read(&[("content-length", "7")]).unwrap();
        assert_eq!((whole.bytes, whole.declared.size), (0..7, 7));
        assert_eq!(whole.declared.content_type, "application/octet-stream");
        assert_eq!(whole.declared.sha256, Checksum::of(b""));
        let part = read(&[("content-range", "bytes 2-4/9"), ("content-type", "a/b")]).unwrap();
        assert_eq!((part.bytes, part.declared.size), (2..5, 9));
        let ask = read(&[("content-range", "bytes */9"), ("content-length", "0")]).unwrap();
        assert_eq!((ask.bytes, ask.declared.size), (0..0, 9));
        for wrong in [
            vec![("transfer-encoding", "chunked")],
            vec![("content-length", "-1")],
            vec![("content-length", "99999999999999999999")],
            vec![("content-range", "bytes 4-2/9")],
            vec![("content-range", "bytes 2-9/9")],
            vec![("content-range", "bytes 2-4/*")],
            vec![("content-range", "bytes +2-4/9")],
            vec![("content-range", "items 2-4/9")],
            vec![("content-range", "bytes 2-4/9"), ("content-length", "4")],
            vec![("content-length", "7"), ("content-type", "text")],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn digests_are_read_as_they_are_written() {
        let empty = Checksum::of(b"");
        assert_eq!(digest_text(empty), DIGEST);
        let several = format!("sha-512=:AAAA:, {DIGEST}");
        assert_eq!(repr_digest(&several), Some(empty));
        for wrong in [
            "",
            "sha-256=AAAA",
            "sha-256=:AAAA:",
            "sha-512=:AAAA:",
            "md5=:AA==:",
        ] {
            assert_eq!(repr_digest(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, asked) in [
            ("bytes=0-0", Asked::Some(0..1)),
            ("bytes=2-", Asked::Some(2..10)),
            ("bytes=2-99", Asked::Some(2..10)),
            ("bytes=-3", Asked::Some(7..10)),
            ("bytes=-99", Asked::Some(0..10)),
            ("bytes=10-", Asked::None),
            ("bytes=-0", Asked::None),
            ("bytes=3-2", Asked::All),
            ("bytes=0-1,4-5", Asked::All),
            ("bytes=-", Asked::All),
            ("lines=0-1", Asked::All),
        ] {
            assert_eq!(range(text, 10), asked, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::None);
    }
}
