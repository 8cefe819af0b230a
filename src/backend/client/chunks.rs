//! A token that is too long for one cookie travels in several.
//!
//! The first cookie has the layer's name, and its value starts with the number of cookies, `1` to `4`. The
//! others have that name with `-1`, `-2`, `-3` behind it, and start with six characters of the token, its 9th to
//! its 14th, so that a cookie that somebody else has planted under such a name is not taken for one of ours.
//! Only all of them together are authentic.
//!
//! Each but the last carries as much of the token as fits 4096 bytes beside the longest of the names, `=`, six
//! characters, and the longest that the attributes can be.

use std::borrow::Cow;

use crate::options::CookieOptions;

/// How many cookies one session takes at most. Servers and proxies refuse requests with much more than 16 KiB
/// of headers, many with less.
pub(crate) const CHUNKS_MAX: usize = 4;

/// The name of a cookie of a session.
pub(crate) fn name(base: &str, index: usize) -> String {
    match index {
        0 => base.to_owned(),
        _ => format!("{base}-{index}"),
    }
}

/// Which cookie of a session has that name.
pub(crate) fn index(base: &str, name: &[u8]) -> Option<usize> {
    match name.strip_prefix(base.as_bytes())? {
        [] => Some(0),
        [b'-', digit @ b'1'..=b'9'] => {
            let index = usize::from(digit - b'0');
            (index < CHUNKS_MAX).then_some(index)
        }
        _ => None,
    }
}

/// How many characters of a token one cookie carries.
pub(crate) fn piece_len(options: &CookieOptions) -> usize {
    let name = options.full_name().len() + SUFFIX_LEN;
    let besides = name + "=".len() + MARK.len() + options.attributes_len_max();
    COOKIE_LEN_MAX.saturating_sub(besides)
}

/// The values of the cookies that carry a token; `None` if it does not fit.
pub(crate) fn split(token: &str, piece_len: usize) -> Option<Vec<String>> {
    let mark = token.get(MARK)?;
    let count = token.len().div_ceil(piece_len.max(1));
    if count > CHUNKS_MAX {
        return None;
    }
    let counted = count.to_string();
    let value = |index: usize| {
        let start = index * piece_len;
        let piece = token.get(start..token.len().min(start + piece_len))?;
        let before = if index == 0 { &*counted } else { mark };
        Some([before, piece].concat())
    };
    (0..count).map(value).collect()
}

/// The beginning of the token of a first cookie's value.
pub(crate) fn start(first: &[u8]) -> &[u8] {
    first.get(1..).unwrap_or_default()
}

/// The token of a first cookie's value, with the values that `others` finds under the names of the rest. It is
/// copied only if it is in several.
pub(crate) fn join<'a, O>(first: &'a [u8], others: impl Fn(usize) -> O) -> Option<Cow<'a, [u8]>>
where
    O: Iterator<Item = &'a [u8]>,
{
    let (count, piece) = first.split_first()?;
    let count = usize::from(count.checked_sub(b'0')?);
    if !(1..=CHUNKS_MAX).contains(&count) || first.len() > COOKIE_LEN_MAX {
        return None;
    }
    let mark = piece.get(MARK)?;
    let mut token = Cow::Borrowed(piece);
    for index in 1..count {
        let mut pieces = others(index).filter_map(|value| value.strip_prefix(mark));
        token.to_mut().extend_from_slice(pieces.next()?);
        if token.len() > CHUNKS_MAX * COOKIE_LEN_MAX {
            return None;
        }
    }
    Some(token)
}

/// What browsers keep of one cookie at least, its name, value and attributes counted (RFC 6265, section 6.1).
const COOKIE_LEN_MAX: usize = 4096;

/// Of `-1` to `-3`.
const SUFFIX_LEN: usize = 2;

/// The part of a token that names it: behind format and key id, where what is random begins.
const MARK: std::ops::Range<usize> = 8..14;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join_all(values: &[String]) -> Option<String> {
        let token = join(values[0].as_bytes(), |index| {
            values.get(index).map(String::as_bytes).into_iter()
        });
        token.map(|token| String::from_utf8(token.into_owned()).unwrap())
    }

    #[test]
    fn more_than_four_cookies_are_none() {
        assert_eq!(split(&"a".repeat(400), 100).unwrap().len(), 4);
        assert_eq!(split(&"a".repeat(401), 100), None);
    }

    #[test]
    fn a_missing_cookie_or_one_of_another_token_is_no_token() {
        let token: String = ('a'..='z').cycle().take(250).collect();
        let values = split(&token, 100).unwrap();
        assert_eq!(join_all(&values).as_deref(), Some(&*token));
        assert_eq!(join_all(&values[..2]), None);
        let mut other = values.clone();
        other[1].replace_range(..1, "X");
        assert_eq!(join_all(&other), None);
        let planted = ["a".repeat(100), values[1].clone()];
        let found = join(values[0].as_bytes(), |index| {
            let planted = planted.iter().filter(move |_| index == 1);
            planted.chain(values.get(index)).map(String::as_bytes)
        });
        assert_eq!(found.as_deref(), Some(token.as_bytes()));
    }

    #[test]
    fn no_other_name_is_that_of_a_cookie_of_the_session() {
        for place in 0..CHUNKS_MAX {
            assert_eq!(index("id", name("id", place).as_bytes()), Some(place));
        }
        for other in [
            "", "i", "id-", "id-0", "id-4", "id-9", "id-11", "id-1 ", "id1", "ID", "xid",
        ] {
            assert_eq!(index("id", other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_split_is_joined(token in "[A-Za-z0-9_-]{14,400}", piece_len in 100_usize..200) {
            let values = split(&token, piece_len).unwrap();
            let longest = values.iter().map(String::len).max().unwrap();
            prop_assert!(longest <= piece_len + MARK.len());
            prop_assert_eq!(join_all(&values), Some(token));
        }

        #[test]
        fn no_value_makes_it_panic(first in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = join(&first, |_| [&first[..], b""].into_iter());
        }
    }
}
