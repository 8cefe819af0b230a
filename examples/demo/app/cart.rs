//! The goods and the cart. Everybody has a cart, signed in or not.

use axum::{
    Form,
    response::{Html, IntoResponse, Redirect, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tower_keep::{Error, Session};

use super::{
    flash,
    page::{Page, Text},
};

pub(crate) async fn shop(session: Session) -> Result<Html<String>, Error> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    let cart: Cart = session.get(Cart::KEY)?.unwrap_or_default();
    let goods: String = GOODS.iter().map(Good::html).collect();
    let cart = cart.html();
    let main = format!(
        "<ul class=goods>\n{goods}</ul>\n<h2>Cart</h2>\n{cart}<p class=quiet>Your visits: {visits}</p>\n"
    );
    Ok(Page::of(&session)?.html("Shop", &main))
}

#[derive(Deserialize)]
pub(crate) struct Add {
    good: String,
    words: Option<String>,
}

pub(crate) async fn add(session: Session, Form(form): Form<Add>) -> Result<Response, Error> {
    let Some(good) = GOODS.iter().find(|good| good.name == form.good) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let line = Line::new(good, form.words.as_deref());
    let title = line.title.clone();
    // When two tabs add at once, this runs again on what the other has stored: neither is lost.
    let cart = session.update(Cart::KEY, move |cart: Option<Cart>| {
        cart.unwrap_or_default().with(&line)
    })?;
    let message = match cart.has(&title) {
        true => format!("{title} is in the cart."),
        false => "The cart is full.".to_owned(),
    };
    flash::say(&session, message)?;
    Ok(Redirect::to("/").into_response())
}

#[derive(Deserialize)]
pub(crate) struct Remove {
    title: String,
}

pub(crate) async fn remove(session: Session, Form(form): Form<Remove>) -> Result<Redirect, Error> {
    let cart: Cart = session.get(Cart::KEY)?.unwrap_or_default();
    if cart.has(&form.title) {
        let message = format!("{} is not in the cart any more.", form.title);
        session.update(Cart::KEY, move |cart: Option<Cart>| {
            cart.unwrap_or_default().without(&form.title)
        })?;
        flash::say(&session, message)?;
    }
    Ok(Redirect::to("/"))
}

struct Good {
    name: &'static str,
    cents: u32,
    /// What is to be written on it, if anything can be.
    words: Option<&'static str>,
}

impl Good {
    fn html(&self) -> String {
        let Self { name, cents, words } = self;
        let words = words.map_or(String::new(), |words| {
            format!("<input name=words maxlength={WORDS_LEN_MAX} placeholder='{words}' aria-label='{words}'>")
        });
        format!(
            "<li class=card><form method=post action=/cart/add><b>{name}</b> <span>{}</span>{words}\
            <button name=good value='{name}'>Add</button></form></li>\n",
            price(*cents)
        )
    }
}

/// What a session keeps: goods at the price that they had when they were added.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Cart(Vec<Line>);

#[derive(Clone, Serialize, Deserialize)]
struct Line {
    title: String,
    cents: u32,
    count: u32,
}

impl Cart {
    const KEY: &str = "cart";

    fn has(&self, title: &str) -> bool {
        self.0.iter().any(|line| line.title == title)
    }

    /// Leaves out what is too much.
    fn with(mut self, added: &Line) -> Self {
        if let Some(line) = self.0.iter_mut().find(|line| line.title == added.title) {
            line.count = (line.count + added.count).min(COUNT_MAX);
        } else if self.0.len() < LINES_MAX {
            self.0.push(added.clone());
        }
        self
    }

    fn without(mut self, title: &str) -> Self {
        self.0.retain(|line| line.title != title);
        self
    }

    fn html(&self) -> String {
        if self.0.is_empty() {
            return "<p>It is empty.</p>\n".to_owned();
        }
        let lines: String = self.0.iter().map(Line::html).collect();
        let sum = self.0.iter().map(|line| line.cents * line.count).sum();
        format!(
            "<ul class=lines>\n{lines}<li><b>Sum</b> <b>{}</b></li>\n</ul>\n",
            price(sum)
        )
    }
}

impl Line {
    fn new(good: &Good, words: Option<&str>) -> Self {
        let words = good.words.and(words).unwrap_or_default().trim();
        let words: String = words.chars().take(WORDS_LEN_MAX).collect();
        let title = match words.as_str() {
            "" => good.name.to_owned(),
            words => format!("{}: {words}", good.name),
        };
        Self {
            title,
            cents: good.cents,
            count: 1,
        }
    }

    fn html(&self) -> String {
        let title = Text(&self.title);
        let count = self.count;
        let price = price(self.cents * count);
        format!(
            "<li><span>{count} × {title}</span> <span>{price}</span>\
            <form method=post action=/cart/remove><button name=title value=\"{title}\">Remove</button></form></li>\n"
        )
    }
}

fn price(cents: u32) -> String {
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

const GOODS: [Good; 4] = [
    Good {
        name: "Tea",
        cents: 450,
        words: None,
    },
    Good {
        name: "Honey",
        cents: 799,
        words: None,
    },
    Good {
        name: "Lantern",
        cents: 2490,
        words: None,
    },
    Good {
        name: "Card",
        cents: 200,
        words: Some("words on it"),
    },
];

/// With these a cart is far smaller than a session may be, and its sum fits.
const LINES_MAX: usize = 20;
const COUNT_MAX: u32 = 99;
const WORDS_LEN_MAX: usize = 80;
