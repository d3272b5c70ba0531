//! The allocations of requests by their callers, from the file that `mayfly-counted` writes.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Deserialize;

use super::parts::Frame;

/// Allocations that came the same way.
#[derive(Debug)]
pub(super) struct Allocations {
    /// Callers, the innermost first.
    pub(super) chain: Vec<Frame>,
    pub(super) count: f64,
    pub(super) bytes: f64,
}

/// The parts of dhat's format that matter here.
#[derive(Deserialize)]
struct Profile {
    #[serde(rename = "pps")]
    points: Vec<Point>,
    #[serde(rename = "ftbl")]
    functions: Vec<String>,
}

#[derive(Deserialize)]
struct Point {
    #[serde(rename = "tb")]
    bytes: f64,
    #[serde(rename = "tbk")]
    blocks: f64,
    /// Places in the table of functions, the innermost first.
    #[serde(rename = "fs")]
    functions: Vec<usize>,
}

/// Reads a file.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Allocations>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let profile: Profile = serde_json::from_str(&text).context("an unknown format of dhat")?;
    let frame = |index: &usize| profile.functions.get(*index).map(|text| frame(text));
    let points = profile.points.iter().map(|point| Allocations {
        chain: point.functions.iter().filter_map(frame).collect(),
        count: point.blocks,
        bytes: point.bytes,
    });
    Ok(points.collect())
}

/// Reads `0x1234: path::of::function (file:line:column)`.
fn frame(text: &str) -> Frame {
    let function = text.split_once(": ").map_or(text, |(_, rest)| rest);
    let function = function.rsplit_once(" (").map_or(function, |(function, _)| function);
    Frame { function: function.to_owned(), object: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_read_without_its_address_and_line() {
        let text = "0x55: <http::Uri as core::clone::Clone>::clone (???:0:0)";
        assert_eq!(frame(text).function, "<http::Uri as core::clone::Clone>::clone");
    }
}
