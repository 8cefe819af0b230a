//! What a request presents: its `Cookie` fields, and the ids in them.

use std::{borrow::Cow, fmt, iter};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use memchr::{memchr, memchr_iter};

use crate::{backend::chunks, id::SessionId};

/// The `Cookie` fields of a request, untouched until somebody asks for the session.
#[derive(Default)]
pub(crate) struct Presented {
    /// Nearly every request has none or one; more of them are legal in HTTP/2 (RFC 9113, 8.2.3).
    first: Option<HeaderValue>,
    more: Vec<HeaderValue>,
}

impl Presented {
    /// Shares the fields of a request; their bytes are not copied.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut fields = headers.get_all(COOKIE).iter().cloned();
        Self {
            first: fields.next(),
            more: fields.collect(),
        }
    }

    /// The well-formed ids under a cookie name.
    pub(crate) fn candidates(&self, name: &str) -> Candidates {
        let mut candidates = Candidates::default();
        for value in self.values(name) {
            if let Some(id) = SessionId::parse(value) {
                candidates.add(id);
            }
        }
        candidates
    }

    /// The first few different tokens under a cookie name whose beginning is recognized, each put together from its cookies.
    ///
    /// What is not recognized is not counted, so that it does not hide what is.
    pub(crate) fn tokens(
        &self,
        name: &str,
        recognizes: impl Fn(&[u8]) -> bool,
    ) -> Vec<Cow<'_, [u8]>> {
        let pieces: Vec<_> = self.pieces(name).collect();
        let pieces_of = |wanted: usize| {
            let pieces = pieces.iter().filter(move |(index, _)| *index == wanted);
            pieces.map(|(_, value)| *value)
        };
        let mut firsts: Vec<&[u8]> = Vec::new();
        for value in pieces_of(0) {
            let is_new = firsts.len() < CANDIDATES_MAX && !firsts.contains(&value);
            if is_new && recognizes(chunks::start(value)) {
                firsts.push(value);
            }
        }
        let join = |first| chunks::join(first, pieces_of);
        firsts.into_iter().filter_map(join).collect()
    }

    /// Behind which place no cookie of a session in several has been sent.
    pub(crate) fn chunks(&self, name: &str) -> usize {
        let places = self.pieces(name).map(|(index, _)| index + 1);
        places.max().unwrap_or(0)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.pairs()
            .filter(move |(key, _)| *key == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The values under the names of the cookies of a session, each with its place among them.
    fn pieces(&self, name: &str) -> impl Iterator<Item = (usize, &[u8])> {
        self.pairs()
            .filter_map(move |(key, value)| Some((chunks::index(name, key)?, value)))
    }

    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let fields = self.first.iter().chain(&self.more);
        fields.flat_map(|field| pairs(field.as_bytes()))
    }
}

/// Cookies are secrets.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = usize::from(self.first.is_some()) + self.more.len();
        write!(f, "Presented({fields} cookie fields)")
    }
}

/// The first few different ids of a request.
///
/// More than one is a sign that somebody else, on a sibling domain or an unencrypted connection,
/// has planted a cookie beside ours. The layer looks all of them up and uses the session only if
/// one alone is alive.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) first: Option<SessionId>,
    /// Hardly ever any.
    pub(crate) more: Vec<SessionId>,
}

impl Candidates {
    fn add(&mut self, id: SessionId) {
        match &self.first {
            None => self.first = Some(id),
            Some(first) => {
                let is_known = *first == id || self.more.contains(&id);
                if !is_known && self.more.len() + 1 < CANDIDATES_MAX {
                    self.more.push(id);
                }
            }
        }
    }

    pub(crate) fn all(self) -> impl Iterator<Item = SessionId> {
        self.first.into_iter().chain(self.more)
    }
}

/// The names and values of one `Cookie` field, in linear time.
///
/// Octets are compared as they are: no percent-decoding, no folding of case, no white space but SP
/// and HTAB (RFC 6265bis, section 5.7), so that no other name can be made to look like ours.
fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let ends = memchr_iter(b';', field).chain(iter::once(field.len()));
    let mut start = 0;
    let pairs = ends.map(move |end| {
        let pair = &field[start..end];
        start = end + 1;
        pair
    });
    pairs.filter_map(|pair| {
        let (key, value) = pair.split_at(memchr(b'=', pair)?);
        Some((trim(key), trim(&value[1..])))
    })
}

fn trim(octets: &[u8]) -> &[u8] {
    let mut octets = trim_start(octets);
    while let [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

fn trim_start(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = octets {
        octets = rest;
    }
    octets
}

/// Bounds the store's work for one request.
const CANDIDATES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::SystemRandom;

    const NAME: &str = "__Host-id";

    fn id() -> SessionId {
        SessionId::generate(&SystemRandom).unwrap()
    }

    fn candidates(fields: &[&[u8]]) -> Vec<SessionId> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        Presented::of(&headers).candidates(NAME).all().collect()
    }

    /// Also of a field that no header may hold.
    fn ids_in(field: &[u8]) -> Vec<SessionId> {
        let ours = pairs(field).filter(|(key, _)| *key == NAME.as_bytes());
        ours.filter_map(|(_, value)| SessionId::parse(value))
            .collect()
    }

    #[test]
    fn the_cookie_is_found_among_others_and_broken_ones() {
        let id = id();
        let ours = format!("{NAME}={}", id.expose_secret());
        for field in [
            ours.clone(),
            format!("a=b; {ours}; c=d"),
            format!("a=b;{ours};c=d"),
            format!(";;=;a;=b; \t{NAME}\t = {} ;", id.expose_secret()),
            format!("a=\"x; {ours}; y\""),
        ] {
            assert_eq!(
                candidates(&[field.as_bytes()]),
                std::slice::from_ref(&id),
                "{field}"
            );
        }
        assert_eq!(candidates(&[b"a=b", b"\xff=\xff", ours.as_bytes()]), [id]);
    }

    #[test]
    fn names_that_only_look_like_ours_are_not_ours() {
        let value = id().expose_secret();
        for field in [
            format!("__host-id={value}"),
            format!("%5F%5FHost-id={value}"),
            format!("\u{2003}{NAME}={value}"),
            format!("\u{a0}{NAME}={value}"),
            format!("{NAME}\u{b}={value}"),
            format!("x{NAME}={value}"),
            format!("={value}"),
            value.clone(),
            format!("{NAME}=\"{value}\""),
            format!("{NAME}=={value}"),
        ] {
            // Header values may not hold a vertical tab; the scan is told of it all the same.
            assert_eq!(ids_in(field.as_bytes()), [], "{field:?}");
        }
    }

    #[test]
    fn the_same_id_twice_is_one_candidate_and_a_fifth_id_is_not_looked_at() {
        let ids: Vec<_> = (0..5).map(|_| id()).collect();
        let mut field = String::new();
        for id in &ids {
            let written = id.expose_secret();
            field += &format!("{NAME}={written}; {NAME}={written}; ");
        }
        assert_eq!(candidates(&[field.as_bytes()]), ids[..4]);
    }

    proptest! {
        #[test]
        fn hostile_fields_never_panic_and_never_hide_the_cookie(
            before in prop::collection::vec(any::<u8>(), 0..100),
            after in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let id = id();
            let pair = format!("{NAME}={}", id.expose_secret());
            let field = [&before, pair.as_bytes(), &after].join(&b';');
            prop_assert_eq!(ids_in(&field), [id]);
        }
    }
}
