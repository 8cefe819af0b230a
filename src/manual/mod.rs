//! Longer texts, for those who want to know how it works before they rely on it.

#[doc = include_str!("coherence.md")]
pub mod coherence {}
