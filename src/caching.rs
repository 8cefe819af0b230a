//! What caches on the way are told: whom an answer is for, and what it depends on.

use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, Entry, VARY},
};

/// Tells caches that the answer depends on the cookie (RFC 9110, section 12.5.5).
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) {
    let names = |value: &HeaderValue| {
        value.as_bytes().split(|&byte| byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(COOKIE.as_str().as_bytes())
        })
    };
    if let Entry::Vacant(vary) = headers.entry(VARY) {
        vary.insert(HeaderValue::from_static("Cookie"));
        return;
    }
    if headers.get_all(VARY).iter().any(names) {
        return;
    }
    let merged = join(
        headers.get_all(VARY).iter().map(HeaderValue::as_bytes),
        "Cookie",
    );
    headers.insert(VARY, merged);
}

/// Keeps an answer with our cookie out of shared caches, which would hand it to everybody.
///
/// - Where the handler says nothing: `no-cache, private`.
/// - Where it says something, that stays, without `public` and `s-maxage`, and with `private`.
/// - `no-store` says more than `private` and needs no company.
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        return;
    }
    let is =
        |directive: &[u8], name: &str| name_of(directive).eq_ignore_ascii_case(name.as_bytes());
    let values: Vec<HeaderValue> = headers.get_all(CACHE_CONTROL).iter().cloned().collect();
    let kept: Vec<&[u8]> = values
        .iter()
        .flat_map(|value| directives(value.as_bytes()))
        .filter(|directive| !is(directive, "public") && !is(directive, "s-maxage"))
        .collect();
    // `private="set-cookie"` speaks of that field alone (RFC 9111, section 5.2.2.7).
    let whole =
        |directive: &&[u8]| is(directive, "no-store") || directive.eq_ignore_ascii_case(b"private");
    let merged = match kept.iter().any(whole) {
        true => join(kept.iter().copied(), ""),
        false => join(kept.iter().copied(), "private"),
    };
    headers.insert(CACHE_CONTROL, merged);
}

/// The directives of a `Cache-Control` field. A comma inside quotes is part of its directive.
fn directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value
        .split(move |&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|directive| !directive.is_empty())
}

fn name_of(directive: &[u8]) -> &[u8] {
    let name = directive.split(|&byte| byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
}

/// One list of the members and a last one, which may be empty.
fn join<'a>(members: impl Iterator<Item = &'a [u8]>, last: &'a str) -> HeaderValue {
    let mut list = Vec::new();
    for member in members
        .chain([last.as_bytes()])
        .filter(|member| !member.is_empty())
    {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(member);
    }
    // Made of header values and commas.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list))
        .unwrap_or_else(|_| HeaderValue::from_static("private"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_control(values: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        keep_private(&mut headers);
        assert_eq!(headers.get_all(CACHE_CONTROL).iter().count(), 1);
        headers[CACHE_CONTROL].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_answer_with_our_cookie_is_private() {
        for (handler, answer) in [
            (&[][..], "no-cache, private"),
            (&["max-age=60"], "max-age=60, private"),
            (&["public, max-age=60, s-maxage=600"], "max-age=60, private"),
            (&["PUBLIC", "S-MaxAge = 600"], "private"),
            (&["Private, max-age=60"], "Private, max-age=60"),
            (&["no-store"], "no-store"),
            (&["no-store, public"], "no-store"),
            (
                &["private=\"set-cookie, x\", public"],
                "private=\"set-cookie, x\", private",
            ),
            (
                &["ext=\"a, public, \\\" b\", public"],
                "ext=\"a, public, \\\" b\", private",
            ),
            (&[""], "private"),
            (&["publicity"], "publicity, private"),
        ] {
            assert_eq!(cache_control(handler), answer, "{handler:?}");
        }
    }

    #[test]
    fn cookie_is_added_to_vary_once_and_what_the_handler_says_stays() {
        for (handler, answer) in [
            (&[][..], "Cookie"),
            (&["Accept"], "Accept, Cookie"),
            (&["Accept", "Origin"], "Accept, Origin, Cookie"),
            (&["accept, cookie"], "accept, cookie"),
            (&["*"], "*"),
            (&["Cookie2"], "Cookie2, Cookie"),
        ] {
            let mut headers = HeaderMap::new();
            for value in handler {
                headers.append(VARY, HeaderValue::from_static(value));
            }
            vary_by_cookie(&mut headers);
            let vary: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(vary, [answer], "{handler:?}");
        }
    }
}
