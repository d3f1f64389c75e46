//! What became of the faults: a fault that nobody could notice proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::scroll;
use crate::Report;
use crate::wording::{grouped, plural};

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    planned: u64,
    fired: u64,
    observable: u64,
    /// Runs that needed it, in which nobody could notice.
    in_vain: u64,
}

impl Count {
    fn add(&mut self, row: &crate::FaultRow) {
        self.planned += row.planned;
        self.fired += row.fired;
        self.observable += row.observable;
        self.in_vain += u64::from(row.required && row.observable == 0);
    }
}

/// Fault by operation, over all runs.
pub(super) fn table(report: &Report) -> Markup {
    let mut by_fault: BTreeMap<&str, Count> = BTreeMap::new();
    let mut cells: BTreeMap<(&str, &str), Count> = BTreeMap::new();
    for run in &report.runs {
        for row in &run.faults {
            // A row for all requests says more than the sum of the others, since it has events too.
            let has_sum = run.faults.iter().any(|other| other.name == row.name && other.operation.is_empty());
            if row.operation.is_empty() || !has_sum {
                by_fault.entry(&row.name).or_default().add(row);
            }
            if !row.operation.is_empty() {
                cells.entry((&row.name, &row.operation)).or_default().add(row);
            }
        }
    }
    if by_fault.is_empty() {
        return html! {};
    }
    let operations: BTreeSet<&str> = cells.keys().map(|(_, operation)| *operation).collect();
    let in_vain: u64 = by_fault.values().map(|count| count.in_vain).sum();
    let mut names: Vec<&str> = by_fault.keys().copied().collect();
    names.sort_by_key(|name| natural(name));
    let table = html! {
        table.keep {
            thead { tr {
                th scope="col" { "Fault" } th.n scope="col" { "All" }
                @for operation in &operations { th.n scope="col" { (operation) } }
            } }
            tbody { @for name in names { tr {
                th scope="row" {
                    (name)
                    @if let Some(fault) = report.faults.iter().find(|fault| fault.name == name) { " " (fault.title) small { (fault.meaning) } }
                }
                td.n { (cell(by_fault.get(name).copied())) }
                @for operation in &operations { td.n { (cell(cells.get(&(name, *operation)).copied())) } }
            } } }
        }
    };
    html! {
        section aria-labelledby="faults" data-box="faults" {
            h2 id="faults" { "Did the faults happen?" }
            p {
                @if in_vain == 0 { "Every fault that a scenario rests on was noticed by somebody in each of its runs." }
                @else { b { "In " (plural(in_vain, "case")) " a scenario rests on a fault that nobody could notice: such a run proves nothing." } }
            }
            p.soft { "Each cell: planned / fired / observable. Planned are the faults of the plans, fired the requests that they met, observable \
                those of them after which somebody was told something else than without the fault." }
            (scroll("Fault by operation", &table))
        }
    }
}

fn cell(count: Option<Count>) -> Markup {
    let Some(count) = count else { return html! { span.soft aria-label="never" { "·" } } };
    let text = format!("{} / {} / {}", grouped(count.planned), grouped(count.fired), grouped(count.observable));
    html! {
        @if count.in_vain > 0 { span.tag.damaged { (text) } small { "in vain " (count.in_vain) "×" } }
        @else if count.observable == 0 { span.soft { (text) } }
        @else { (text) }
    }
}

/// `N10` comes after `N9`.
fn natural(name: &str) -> (String, u64, String) {
    let digits = name.find(|it: char| it.is_ascii_digit()).unwrap_or(name.len());
    let (letters, rest) = name.split_at(digits);
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (letters.to_owned(), number.parse().unwrap_or(0), name.to_owned())
}
