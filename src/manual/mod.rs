//! Longer texts, for those who want to know how it works before they rely on it.

#[doc = include_str!("coherence.md")]
pub mod coherence {}

#[doc = include_str!("command_line.md")]
pub mod command_line {}
