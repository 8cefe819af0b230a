//! Everything about a layer that is plain data, and what of it contradicts itself.

use std::{fmt, time::Duration};

use cookie::SameSite;
use serde::Deserialize;

use crate::expiry::ExpiryPolicy;

/// The options of a [`SessionLayer`](crate::SessionLayer) as an application reads them from its
/// configuration, and applies them with
/// [`with_options`](crate::SessionLayer::with_options).
///
/// Every field may be left out and then has the layer's default. An unknown field is an error, and
/// so is what the layer's builder would panic at.
///
/// | field | type | the builder's method |
/// |---|---|---|
/// | `cookie_name` | text | `with_cookie_name` |
/// | `cookie_domain` | text | `with_domain` |
/// | `cookie_path` | text | `with_path` |
/// | `same_site` | `"strict"`, `"lax"` or `"none"` | `with_same_site` |
/// | `partitioned` | bool | `with_partitioned` |
/// | `insecure_http` | bool | `with_insecure_http` |
/// | `insecure_script_access` | bool | `with_insecure_script_access` |
/// | `browser_close` | bool | `with_browser_close` |
/// | `idle_timeout_secs` | whole seconds | `with_idle_timeout` |
/// | `absolute_timeout_secs` | whole seconds | `with_absolute_timeout` |
/// | `touch_after_secs` | whole seconds | `with_touch_after` |
/// | `store_timeout_millis` | whole milliseconds | `with_store_timeout` |
/// | `record_bytes_max` | bytes | `with_record_bytes_max` |
/// | `conflict` | `"merge"` or `"reject"` | `with_conflict` |
/// | `outage` | `"error"` or `"anonymous"` | `with_outage` |
///
/// # Examples
///
/// ```
/// use tower_keep::SessionOptions;
///
/// let options: SessionOptions = serde_json::from_str(
///     r#"{ "cookie_name": "shop", "idle_timeout_secs": 1800, "same_site": "strict" }"#,
/// )?;
///
/// let contradiction = r#"{ "same_site": "none", "insecure_http": true }"#;
/// assert!(serde_json::from_str::<SessionOptions>(contradiction).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct SessionOptions {
    pub(crate) cookie: CookieOptions,
    pub(crate) expiry: ExpiryPolicy,
    pub(crate) limits: Limits,
    pub(crate) conflict: Conflict,
    pub(crate) outage: Outage,
}

/// What happens when two requests change one session at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Conflict {
    /// The later one makes its changes again over what the earlier one has stored: keys that it
    /// put or removed are put or removed again, and the functions it passed to
    /// [`update`](crate::Session::update) run again. The default.
    #[default]
    Merge,
    /// The later one is answered with 409 and stores nothing.
    Reject,
}

/// What happens when a session cannot be loaded because the store is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outage {
    /// Loading is an error, answered with 503. The default: an outage is not a logout.
    #[default]
    Error,
    /// If the store fails or is silent (`ErrorKind::Store`, `ErrorKind::Timeout`), the request is served with an empty
    /// session that cannot be changed, so that pages for everybody go on to work. Cookies are left alone: when the store
    /// is back, so is the session. A record of a newer version (`ErrorKind::Unsupported`) is an error all the same.
    Anonymous,
}

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) store_timeout: Duration,
    pub(crate) record_bytes_max: usize,
}

impl Limits {
    /// Long enough for a failover inside a cluster, short enough that callers do not pile up.
    pub(crate) const STORE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

    /// A session is read by every request that uses it. 64 KiB is sixteen times a full cookie.
    pub(crate) const RECORD_BYTES_MAX_DEFAULT: usize = 64 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store_timeout: Self::STORE_TIMEOUT_DEFAULT,
            record_bytes_max: Self::RECORD_BYTES_MAX_DEFAULT,
        }
    }
}

/// The cookie's name and attributes. The name that is written carries the prefix that the other
/// attributes allow (RFC 6265bis, section 4.1.3), so that the two cannot contradict each other.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CookieOptions {
    name: String,
    full_name: String,
    pub(crate) domain: Option<String>,
    pub(crate) path: String,
    pub(crate) same_site: SameSite,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) partitioned: bool,
}

impl CookieOptions {
    /// Tells nothing about the software behind it (OWASP Session Management Cheat Sheet).
    pub(crate) const NAME_DEFAULT: &'static str = "id";

    /// Leaves a cookie's 4096 bytes to its value.
    pub(crate) const NAME_LEN_MAX: usize = 64;

    /// The name with its prefix, as it stands in a cookie.
    pub(crate) fn full_name(&self) -> &str {
        &self.full_name
    }

    /// Bytes of a `Set-Cookie` behind the value, at most.
    pub(crate) fn attributes_len_max(&self) -> usize {
        let domain = |domain: &String| "; Domain=".len() + domain.len();
        let longest = "; HttpOnly; SameSite=Strict; Partitioned; Secure; Max-Age=34560000; Path=";
        longest.len() + self.path.len() + self.domain.as_ref().map_or(0, domain)
    }

    fn with_full_name(mut self) -> Self {
        let prefix = match (self.secure, &self.domain, self.path.as_str()) {
            (true, None, "/") => "__Host-",
            (true, _, _) => "__Secure-",
            (false, _, _) => "",
        };
        self.full_name = format!("{prefix}{}", self.name);
        self
    }
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            name: Self::NAME_DEFAULT.to_owned(),
            full_name: String::new(),
            domain: None,
            path: "/".to_owned(),
            same_site: SameSite::Lax,
            secure: true,
            http_only: true,
            partitioned: false,
        }
        .with_full_name()
    }
}

impl fmt::Debug for CookieOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieOptions")
            .field("name", &self.full_name)
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("same_site", &self.same_site)
            .field("secure", &self.secure)
            .field("http_only", &self.http_only)
            .field("partitioned", &self.partitioned)
            .finish()
    }
}

/// Options that are out of bounds or contradict each other. The text tells the mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OptionsError(pub(crate) &'static str);

impl SessionOptions {
    pub(crate) fn set_cookie_name(&mut self, name: &str) -> Result<(), OptionsError> {
        if !(1..=CookieOptions::NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(is_token) {
            return Err(OptionsError(
                "a cookie name has 1 to 64 letters, digits or !#$%&'*+-.^_`|~",
            ));
        }
        if PREFIXES.iter().any(|prefix| starts_with(name, prefix)) {
            return Err(OptionsError(
                "give the cookie name without a prefix: `__Host-` or `__Secure-` follows from the other options",
            ));
        }
        if ["-1", "-2", "-3"].iter().any(|part| name.ends_with(part)) {
            return Err(OptionsError(
                "a cookie name does not end with `-1`, `-2` or `-3`: so end those of the parts of a large session in cookies",
            ));
        }
        self.edit_cookie(|cookie| name.clone_into(&mut cookie.name));
        Ok(())
    }

    pub(crate) fn set_domain(&mut self, domain: &str) -> Result<(), OptionsError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if domain.len() > 253 || !domain.split('.').all(label) {
            return Err(OptionsError(
                "a cookie domain is a host name such as `example.org`, without a leading dot; leave it out to bind the cookie to one host",
            ));
        }
        self.edit_cookie(|cookie| cookie.domain = Some(domain.to_owned()));
        Ok(())
    }

    pub(crate) fn set_path(&mut self, path: &str) -> Result<(), OptionsError> {
        let plain = |b: u8| matches!(b, b'!'..=b'~') && b != b';';
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return Err(OptionsError(
                "a cookie path starts with `/` and has visible ASCII characters without `;`",
            ));
        }
        self.edit_cookie(|cookie| path.clone_into(&mut cookie.path));
        Ok(())
    }

    pub(crate) fn set_same_site(&mut self, same_site: SameSite) {
        self.edit_cookie(|cookie| cookie.same_site = same_site);
    }

    pub(crate) fn set_partitioned(&mut self) {
        self.edit_cookie(|cookie| cookie.partitioned = true);
    }

    pub(crate) fn set_insecure_http(&mut self) {
        self.edit_cookie(|cookie| cookie.secure = false);
    }

    pub(crate) fn set_insecure_script_access(&mut self) {
        self.edit_cookie(|cookie| cookie.http_only = false);
    }

    pub(crate) fn set_idle_timeout(&mut self, timeout: Duration) -> Result<(), OptionsError> {
        self.expiry.idle = above_zero(timeout, "an idle timeout is at least one millisecond")?;
        Ok(())
    }

    pub(crate) fn set_absolute_timeout(&mut self, timeout: Duration) -> Result<(), OptionsError> {
        self.expiry.absolute =
            above_zero(timeout, "an absolute timeout is at least one millisecond")?;
        Ok(())
    }

    pub(crate) fn set_store_timeout(&mut self, timeout: Duration) -> Result<(), OptionsError> {
        self.limits.store_timeout =
            above_zero(timeout, "a store timeout is at least one millisecond")?;
        Ok(())
    }

    pub(crate) fn set_record_bytes_max(&mut self, bytes: usize) -> Result<(), OptionsError> {
        if bytes == 0 || u32::try_from(bytes).is_err() {
            return Err(OptionsError(
                "the limit of a record is at least 1 byte and less than 4 GiB",
            ));
        }
        self.limits.record_bytes_max = bytes;
        Ok(())
    }

    /// What no single option is wrong about, but two together are.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if !self.cookie.secure && self.cookie.same_site == SameSite::None {
            return Err(OptionsError(
                "browsers drop a cookie with SameSite=None that is not Secure: use SameSite=Lax, or serve HTTPS and remove `with_insecure_http`",
            ));
        }
        if !self.cookie.secure && self.cookie.partitioned {
            return Err(OptionsError(
                "browsers drop a Partitioned cookie that is not Secure: remove `with_partitioned` or `with_insecure_http`",
            ));
        }
        if self
            .expiry
            .touch_after
            .is_some_and(|after| after >= self.expiry.idle)
        {
            return Err(OptionsError(
                "sessions would expire before they are touched: `with_touch_after` takes less than the idle timeout",
            ));
        }
        Ok(())
    }

    fn edit_cookie(&mut self, edit: impl FnOnce(&mut CookieOptions)) {
        let mut cookie = self.cookie.clone();
        edit(&mut cookie);
        self.cookie = cookie.with_full_name();
    }
}

/// The fields of a configuration, before anything about them is known.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    cookie_name: Option<String>,
    cookie_domain: Option<String>,
    cookie_path: Option<String>,
    same_site: Option<SameSiteName>,
    partitioned: bool,
    insecure_http: bool,
    insecure_script_access: bool,
    browser_close: bool,
    idle_timeout_secs: Option<u64>,
    absolute_timeout_secs: Option<u64>,
    touch_after_secs: Option<u64>,
    store_timeout_millis: Option<u64>,
    record_bytes_max: Option<usize>,
    conflict: Conflict,
    outage: Outage,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SameSiteName {
    Strict,
    Lax,
    None,
}

impl TryFrom<Fields> for SessionOptions {
    type Error = OptionsError;

    fn try_from(fields: Fields) -> Result<Self, OptionsError> {
        let mut options = Self {
            conflict: fields.conflict,
            outage: fields.outage,
            ..Self::default()
        };
        if let Some(name) = fields.cookie_name {
            options.set_cookie_name(&name)?;
        }
        if let Some(domain) = fields.cookie_domain {
            options.set_domain(&domain)?;
        }
        if let Some(path) = fields.cookie_path {
            options.set_path(&path)?;
        }
        if let Some(same_site) = fields.same_site {
            options.set_same_site(match same_site {
                SameSiteName::Strict => SameSite::Strict,
                SameSiteName::Lax => SameSite::Lax,
                SameSiteName::None => SameSite::None,
            });
        }
        if fields.partitioned {
            options.set_partitioned();
        }
        if fields.insecure_http {
            options.set_insecure_http();
        }
        if fields.insecure_script_access {
            options.set_insecure_script_access();
        }
        if let Some(secs) = fields.idle_timeout_secs {
            options.set_idle_timeout(Duration::from_secs(secs))?;
        }
        if let Some(secs) = fields.absolute_timeout_secs {
            options.set_absolute_timeout(Duration::from_secs(secs))?;
        }
        if let Some(millis) = fields.store_timeout_millis {
            options.set_store_timeout(Duration::from_millis(millis))?;
        }
        if let Some(bytes) = fields.record_bytes_max {
            options.set_record_bytes_max(bytes)?;
        }
        options.expiry.touch_after = fields.touch_after_secs.map(Duration::from_secs);
        options.expiry.browser_close = fields.browser_close;
        options.check()?;
        Ok(options)
    }
}

fn above_zero(timeout: Duration, mend: &'static str) -> Result<Duration, OptionsError> {
    if timeout < Duration::from_millis(1) {
        return Err(OptionsError(mend));
    }
    Ok(timeout)
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// What browsers give a meaning of their own, in any case of letters (RFC 6265bis, section 4.1.3),
/// the last one behind `__Host-`.
const PREFIXES: [&str; 4] = ["__Host-", "__Secure-", "__Http-", "Http-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SessionOptions, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        assert_eq!(parse("{}"), Ok(SessionOptions::default()));
    }

    #[test]
    fn the_prefix_follows_from_the_other_options() {
        let name = |json| parse(json).unwrap().cookie.full_name;
        assert_eq!(name("{}"), "__Host-id");
        assert_eq!(name(r#"{"cookie_domain":"example.org"}"#), "__Secure-id");
        assert_eq!(name(r#"{"cookie_path":"/shop"}"#), "__Secure-id");
        assert_eq!(name(r#"{"insecure_http":true}"#), "id");
        let all = r#"{"cookie_name":"a","cookie_domain":"example.org","insecure_http":true}"#;
        assert_eq!(name(all), "a");
    }

    #[test]
    fn what_is_out_of_bounds_or_contradicts_itself_is_an_error() {
        let long = format!(r#"{{"cookie_name":"{}"}}"#, "a".repeat(65));
        for bad in [
            &*long,
            r#"{"cookie_name":""}"#,
            r#"{"cookie_name":"a b"}"#,
            r#"{"cookie_name":"a=b"}"#,
            r#"{"cookie_name":"__Host-id"}"#,
            r#"{"cookie_name":"__secure-id"}"#,
            r#"{"cookie_name":"Http-id"}"#,
            r#"{"cookie_name":"id-1"}"#,
            r#"{"cookie_domain":""}"#,
            r#"{"cookie_domain":".example.org"}"#,
            r#"{"cookie_domain":"example.org; Path=/x"}"#,
            r#"{"cookie_path":"shop"}"#,
            r#"{"cookie_path":"/; Domain=evil.example"}"#,
            r#"{"same_site":"none","insecure_http":true}"#,
            r#"{"same_site":"sometimes"}"#,
            r#"{"partitioned":true,"insecure_http":true}"#,
            r#"{"idle_timeout_secs":0}"#,
            r#"{"absolute_timeout_secs":0}"#,
            r#"{"store_timeout_millis":0}"#,
            r#"{"record_bytes_max":0}"#,
            r#"{"idle_timeout_secs":60,"touch_after_secs":60}"#,
            r#"{"idle_timeout":60}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_field_arrives() {
        let options = parse(
            r#"{"cookie_name":"shop","cookie_domain":"example.org","cookie_path":"/a",
                "same_site":"strict","partitioned":true,"insecure_script_access":true,
                "browser_close":true,"idle_timeout_secs":60,"absolute_timeout_secs":600,
                "touch_after_secs":5,"store_timeout_millis":250,"record_bytes_max":1000,
                "conflict":"reject","outage":"anonymous"}"#,
        )
        .unwrap();
        let cookie = &options.cookie;
        assert_eq!(cookie.full_name(), "__Secure-shop");
        assert_eq!(cookie.domain.as_deref(), Some("example.org"));
        assert_eq!(cookie.path, "/a");
        assert_eq!(cookie.same_site, SameSite::Strict);
        assert!(cookie.partitioned && cookie.secure && !cookie.http_only);
        let secs = Duration::from_secs;
        let policy = ExpiryPolicy {
            idle: secs(60),
            absolute: secs(600),
            touch_after: Some(secs(5)),
            browser_close: true,
        };
        assert_eq!(options.expiry, policy);
        assert_eq!(options.limits.store_timeout, Duration::from_millis(250));
        assert_eq!(options.limits.record_bytes_max, 1000);
        assert_eq!(options.conflict, Conflict::Reject);
        assert_eq!(options.outage, Outage::Anonymous);
    }
}
