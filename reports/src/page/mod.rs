//! The pages: what all of them share is here, one module for each kind.
//!
//! A page asks nothing of anybody (its own policy forbids it to), works without its script, and scrolls sideways only within its tables.

pub(crate) mod bench;
pub(crate) mod failure;
mod faults;
pub(crate) mod harness;
pub(crate) mod mounts;
mod plot;
mod timeline;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::Verdict;
use crate::wording::Mood;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// What the browser itself is told to refuse: whatever is not in the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A link to another page of the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where to, relative to the page.
    pub(crate) href: String,
    /// In words.
    pub(crate) title: String,
}

impl Link {
    /// A link.
    #[must_use]
    pub(crate) fn new(href: &str, title: &str) -> Link {
        Link { href: href.to_owned(), title: title.to_owned() }
    }
}

/// A whole page around its content.
fn shell(title: &str, links: &[Link], content: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                @if !links.is_empty() {
                    nav.top aria-label="Pages" { ul { @for link in links { li { a href=(link.href) { (link.title) } } } } }
                }
                (content)
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

/// A command, which the script gives a button that copies it.
fn command(text: &str) -> Markup {
    html! { div.run { code { (text) } } }
}

/// Something that may be wider than the window: it scrolls within itself, also by keyboard.
fn scroll(label: &str, content: &Markup) -> Markup {
    html! { div.scroll role="group" aria-label=(label) tabindex="0" { (content) } }
}

fn class_and_words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Sound => ("tag sound", "✓ sound"),
        Verdict::Damaged => ("tag damaged", "✗ damaged"),
        Verdict::Unknown => ("tag unknown", "? no verdict"),
        Verdict::NotRun => ("tag notrun", "– not run"),
    }
}

fn tag(verdict: Verdict) -> Markup {
    let (class, words) = class_and_words(verdict);
    html! { span class=(class) { (words) } }
}

fn tag_to(verdict: Verdict, href: &str, about: &str) -> Markup {
    let (class, words) = class_and_words(verdict);
    html! { a class=(class) href=(href) aria-label={ (words) ": " (about) } { (words) } }
}

fn mood_class(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "hero good",
        Mood::Bad => "hero bad",
        Mood::Odd => "hero odd",
    }
}

/// When, by which command.
fn made(created: &str, by: &str) -> Markup {
    html! { p.soft { (created) " · made by " code { (by) } } }
}

/// The machine and the versions.
fn environment(environment: &BTreeMap<String, String>, versions: &[(String, String)], files: &[Link]) -> Markup {
    html! {
        section aria-labelledby="environment" {
            h2 id="environment" { "Where it ran" }
            dl.facts {
                @for (name, value) in versions { dt { (name) } dd { (value) } }
                @for (name, value) in environment { dt { (name) } dd { (value) } }
            }
            @if !files.is_empty() {
                p.soft { "The same as data: " @for (at, file) in files.iter().enumerate() {
                    @if at > 0 { " · " } a href=(file.href) { (file.title) }
                } }
            }
        }
    }
}

/// A name that may stand in a file's name, an `id` and a link.
pub(crate) fn slug(text: &str) -> String {
    text.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' }).collect()
}

/// How many decimals a figure deserves.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => crate::wording::grouped(value.round().max(0.0) as u64),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
