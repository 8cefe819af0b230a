//! What all pages have around them.

use std::fmt;

use axum::response::{Html, IntoResponse};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tower_keep::{Error, Session, UserId};

use super::flash;

/// The frame of a page: who is signed in, and the message of the form that led here.
#[derive(Default)]
pub(crate) struct Page {
    user: Option<UserId>,
    flash: Option<String>,
}

impl Page {
    /// Takes the session's message: it is shown on this page and on no other.
    pub(crate) fn of(session: &Session) -> Result<Self, Error> {
        Ok(Self {
            user: session.user(),
            flash: flash::take(session)?,
        })
    }

    pub(crate) fn html(&self, title: &str, main: &str) -> Html<String> {
        let account = self.user.as_ref().map_or_else(
            || "<a href=/sign-in>Sign in</a>".to_owned(),
            |user| {
                let user = Text(user.as_str());
                format!("<a href=/devices>Devices</a>\n<form method=post action=/sign-out><button>Sign out {user}</button></form>")
            },
        );
        let flash = self.flash.as_deref().map_or(String::new(), |message| {
            format!("<p class=flash role=status>{}</p>\n", Text(message))
        });
        Html(format!(
            "<!doctype html>\n\
            <html lang=en>\n\
            <meta charset=utf-8>\n\
            <meta name=viewport content='width=device-width, initial-scale=1'>\n\
            <meta name=color-scheme content='light dark'>\n\
            <title>{title} – tower-keep demo</title>\n\
            <link rel=stylesheet href=/style.css>\n\
            <nav>\n<a href=/ class=home>Keep Shop</a>\n{account}\n</nav>\n\
            <main>\n{flash}<h1>{title}</h1>\n{main}</main>\n"
        ))
    }
}

/// Makes text out of what would be HTML, between tags and in quoted attributes.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['&', '<', '>', '"', '\'']) {
            let Some((at, char)) = part.char_indices().next_back() else {
                continue;
            };
            let escaped = match char {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                _ => &part[at..],
            };
            f.write_str(&part[..at])?;
            f.write_str(escaped)?;
        }
        Ok(())
    }
}

pub(crate) async fn style() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/css; charset=utf-8"),
        // The same for everybody.
        (CACHE_CONTROL, "public, max-age=600"),
    ];
    (headers, include_str!("style.css"))
}
