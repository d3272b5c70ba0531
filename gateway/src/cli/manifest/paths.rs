//! Paths in the API's document, as places in the file of which it was made.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The byte at which the thing at `path` begins, or what is nearest around it.
///
/// The text is parsed again: what was parsed borrows from it, and mistakes are rare.
pub(super) fn offset_of(text: &str, path: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 0 };
    let path = in_file(path);
    let (mut offset, mut rest) = (0, path.as_str());
    let mut table = Some(document.get_ref());
    while let Some((name, value, below)) = table.and_then(|table| member(table, rest)) {
        offset = name;
        let (item, below) = item(value, below, &mut offset);
        rest = below.strip_prefix('.').unwrap_or(below);
        table = item.get_ref().as_table();
    }
    offset
}

/// The path of a setting without `settings`: settings stand directly in the table of their function.
fn in_file(path: &str) -> String {
    let parts: Vec<&str> = path.splitn(4, '.').collect();
    match parts[..] {
        ["functions", name, "settings"] => format!("functions.{name}"),
        ["functions", name, "settings", setting] => format!("functions.{name}.{setting}"),
        _ => path.to_owned(),
    }
}

/// The member at the beginning of a path: where its name begins, its value, and the rest of the path.
/// Names may have dots in them, so the longest that fits counts.
fn member<'d, 'p>(
    table: &'d DeTable<'_>,
    path: &'p str,
) -> Option<(usize, &'d Spanned<DeValue<'d>>, &'p str)> {
    let members = table.iter().filter_map(|(name, value)| {
        let below = path.strip_prefix(&**name.get_ref())?;
        let ends = below.is_empty() || below.starts_with(['.', '[']);
        ends.then_some((name.span().start, value, below))
    });
    members.min_by_key(|(_, _, below)| below.len())
}

/// The item of an array that a path goes on with, if it does and there is such an item.
fn item<'d, 'p>(
    mut value: &'d Spanned<DeValue<'d>>,
    mut path: &'p str,
    offset: &mut usize,
) -> (&'d Spanned<DeValue<'d>>, &'p str) {
    while let DeValue::Array(items) = value.get_ref()
        && let Some((index, below)) = path.strip_prefix('[').and_then(|path| path.split_once(']'))
        && let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index))
    {
        *offset = item.span().start;
        (value, path) = (item, below);
    }
    (value, path)
}
