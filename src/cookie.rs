//! The cookie that goes out, and room made for it.

use cookie::{Cookie, SameSite};
use http::{
    HeaderMap, HeaderValue,
    header::{Entry, SET_COOKIE},
};
use std::{borrow::Cow, fmt::Write, time::Duration};

use crate::{
    backend::chunks,
    options::CookieOptions,
    session::{CookieChange, CookieValue},
};

/// Puts our cookie into an answer as `change` says. Answers whether it put one there.
///
/// A cookie of our name that the handler has set is taken out: there is exactly one in the answer. But a session that
/// is in cookies itself may need several; then `sent` says how many the client has, so that those that are not needed any
/// more are removed.
pub(crate) fn apply(
    change: &CookieChange,
    options: &CookieOptions,
    sent: impl FnOnce() -> usize,
    headers: &mut HeaderMap,
) -> bool {
    let (values, max_age) = match change {
        CookieChange::Keep => return false,
        CookieChange::Remove => (Cow::default(), None),
        CookieChange::Set { value, max_age } => (values_of(value), *max_age),
    };
    for index in 0..values.len().max(sent()).max(1) {
        let name = chunks::name(options.full_name(), index);
        let cookie = match values.get(index) {
            Some(value) => set(options, &name, value, max_age),
            None => removal(options, &name),
        };
        put(&name, cookie, headers);
    }
    true
}

fn values_of(value: &CookieValue) -> Cow<'_, [String]> {
    match value {
        CookieValue::Id(id) => vec![id.expose_secret()].into(),
        CookieValue::Token(token) => token.expose_secret().into(),
    }
}

fn put(name: &str, cookie: String, headers: &mut HeaderMap) {
    // Names and attributes are parsed when the layer is built, ids and tokens are base64.
    let Ok(mut value) = HeaderValue::try_from(cookie) else {
        debug_assert!(false, "a cookie that is no header value");
        return;
    };
    // Kept out of `Debug`, and of the tables by which HTTP/2 compresses headers.
    value.set_sensitive(true);
    take_out(name, headers);
    headers.append(SET_COOKIE, value);
}

fn set(options: &CookieOptions, name: &str, value: &str, max_age: Option<Duration>) -> String {
    let mut cookie = base(options, name, value);
    if let Some(age) = max_age {
        // Rounded up: a zero would remove the cookie.
        let secs = age.min(MAX_AGE_MAX).as_millis().div_ceil(1000);
        let secs = i64::try_from(secs).unwrap_or(i64::MAX);
        cookie.set_max_age(cookie::time::Duration::seconds(secs));
    }
    write(&cookie)
}

/// Repeats every attribute: a browser drops a cookie only for one of the same name, domain and
/// path, and takes one with a prefix or `Partitioned` only with the attributes that go with it.
fn removal(options: &CookieOptions, name: &str) -> String {
    let mut cookie = base(options, name, "");
    cookie.make_removal();
    write(&cookie)
}

/// In one piece of memory, which need not grow with each attribute.
fn write(cookie: &Cookie<'_>) -> String {
    let mut written = String::with_capacity(COOKIE_LEN_USUAL + cookie.value().len());
    // Writing into a string can not fail.
    let _ = write!(written, "{cookie}");
    written
}

fn base<'a>(options: &'a CookieOptions, name: &'a str, value: &'a str) -> Cookie<'a> {
    let mut cookie = Cookie::new(name, value);
    cookie.set_path(&*options.path);
    if let Some(domain) = &options.domain {
        cookie.set_domain(&**domain);
    }
    cookie.set_same_site(same_site(options.same_site));
    cookie.set_secure(options.secure);
    cookie.set_http_only(options.http_only);
    cookie.set_partitioned(options.partitioned);
    cookie
}

/// Always written: browsers differ in what they assume without it.
const fn same_site(same_site: SameSite) -> Option<SameSite> {
    Some(same_site)
}

fn take_out(name: &str, headers: &mut HeaderMap) {
    let Entry::Occupied(set) = headers.entry(SET_COOKIE) else {
        return;
    };
    let is_ours = |cookie: &HeaderValue| {
        let pair = cookie.as_bytes().split(|&byte| byte == b';').next();
        let key = pair.and_then(|pair| pair.split(|&byte| byte == b'=').next());
        key.is_some_and(|key| key.trim_ascii() == name.as_bytes())
    };
    if !set.iter().any(is_ours) {
        return;
    }
    let (_, others) = set.remove_entry_mult();
    let others: Vec<_> = others.filter(|cookie| !is_ours(cookie)).collect();
    for other in others {
        headers.append(SET_COOKIE, other);
    }
}

/// A cookie with the default options, which takes 69 bytes besides its value, and a domain.
const COOKIE_LEN_USUAL: usize = 117;

/// What browsers cap it to anyway (RFC 6265bis, section 5.5).
const MAX_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::SessionId, options::SessionOptions};

    fn options(json: &str) -> CookieOptions {
        serde_json::from_str::<SessionOptions>(json).unwrap().cookie
    }

    fn set_of(json: &str, max_age: Option<u64>) -> String {
        let options = options(json);
        let max_age = max_age.map(Duration::from_secs);
        set(&options, options.full_name(), &"A".repeat(43), max_age)
    }

    #[test]
    fn the_default_cookie_is_bound_to_its_host_and_hidden_from_scripts() {
        let id = "A".repeat(43);
        assert_eq!(
            set_of("{}", Some(60)),
            format!("__Host-id={id}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60")
        );
        assert_eq!(
            set_of("{}", None),
            format!("__Host-id={id}; HttpOnly; SameSite=Lax; Secure; Path=/")
        );
    }

    #[test]
    fn the_age_is_capped_at_400_days() {
        let cookie = set_of("{}", Some(u64::MAX));
        assert!(cookie.ends_with("; Max-Age=34560000"), "{cookie}");
    }

    #[test]
    fn less_than_a_second_is_a_second_and_no_removal() {
        let cookie = set(&options("{}"), "id", "A", Some(Duration::from_millis(1)));
        assert!(cookie.ends_with("; Max-Age=1"), "{cookie}");
    }

    #[test]
    fn debug_of_the_headers_does_not_show_the_id() {
        let mut headers = HeaderMap::new();
        let id = SessionId::parse(&[b'A'; 43]).unwrap();
        let value = CookieValue::Id(id);
        let change = CookieChange::Set {
            value,
            max_age: None,
        };
        assert!(apply(&change, &options("{}"), || 0, &mut headers));
        assert!(!format!("{headers:?}").contains("AAAA"));
    }

    #[test]
    fn secure_http_only_and_same_site_follow_the_options() {
        let http = set_of(
            r#"{"insecure_http":true,"insecure_script_access":true}"#,
            None,
        );
        assert!(
            !http.contains("Secure") && !http.contains("HttpOnly"),
            "{http}"
        );
        for (name, written) in [("strict", "Strict"), ("lax", "Lax"), ("none", "None")] {
            let cookie = set_of(&format!(r#"{{"same_site":"{name}"}}"#), None);
            assert!(
                cookie.contains(&format!("; SameSite={written}; Secure")),
                "{cookie}"
            );
        }
    }

    #[test]
    fn a_removal_repeats_every_attribute() {
        let options = options(
            r#"{"cookie_domain":"example.org","cookie_path":"/a","same_site":"none","partitioned":true}"#,
        );
        let removal = removal(&options, options.full_name());
        let (start, expires) = removal.split_once("; Expires=").unwrap();
        assert_eq!(
            start,
            "__Secure-id=; HttpOnly; SameSite=None; Partitioned; Secure; Path=/a; \
             Domain=example.org; Max-Age=0"
        );
        assert!(expires.ends_with(" GMT"), "{expires}");
    }

    #[test]
    fn a_cookie_of_our_name_makes_room_and_others_stay_in_order() {
        let mut headers = HeaderMap::new();
        for cookie in [
            "a=1",
            "__Host-id=mine; Path=/",
            "b=2",
            " __Host-id =x",
            "__Host-id2=y",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        assert!(apply(
            &CookieChange::Remove,
            &options("{}"),
            || 0,
            &mut headers
        ));
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies[..3], ["a=1", "b=2", "__Host-id2=y"]);
        assert!(cookies[3].to_str().unwrap().starts_with("__Host-id=; "));
        assert_eq!(cookies.len(), 4);
    }

    #[test]
    fn no_attributes_are_longer_than_the_options_say() {
        let longest = r#"{"cookie_domain":"example.org","cookie_path":"/a","same_site":"strict","partitioned":true}"#;
        for (json, is_longest) in [(longest, true), ("{}", false)] {
            let options = options(json);
            let cookie = set(&options, "id", "A", Some(MAX_AGE_MAX));
            let attributes = cookie.len() - "id=A".len();
            let most = options.attributes_len_max();
            assert!(attributes <= most, "{cookie}");
            assert_eq!(attributes == most, is_longest, "{cookie}");
        }
    }

    #[test]
    fn without_a_change_the_headers_are_left_alone() {
        let mut headers = HeaderMap::new();
        assert!(!apply(
            &CookieChange::Keep,
            &options("{}"),
            || 4,
            &mut headers
        ));
        assert!(headers.is_empty());
    }
}
