//! Numbers of bytes as people write them: `67108864`, `64MiB`, `64m`.

/// 2^10 bytes.
pub(crate) const KIB: u64 = 1 << 10;
/// 2^20 bytes.
pub(crate) const MIB: u64 = 1 << 20;
/// 2^30 bytes.
pub(crate) const GIB: u64 = 1 << 30;
/// 2^40 bytes.
pub(crate) const TIB: u64 = 1 << 40;

/// The values that [`parse`] accepts, for error messages.
pub(crate) const EXPECTED: &str = "expected a number of bytes such as 67108864 or 64MiB";

/// The texts that [`parse`] accepts, as a regular expression, for schemas.
pub(crate) const PATTERN: &str = "^[0-9]+ ?([kKmMgGtT]([iI]?[bB])?|[bB])?$";

/// A whole number with an optional unit. A single letter means the binary unit, because most sizes
/// are sizes of memory.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "t" | "tib" => TIB,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The largest binary unit that fits, with one decimal where the number is not whole.
pub(crate) fn format(bytes: u64) -> String {
    let (unit, name) = match bytes {
        TIB.. => (TIB, "TiB"),
        GIB.. => (GIB, "GiB"),
        MIB.. => (MIB, "MiB"),
        KIB.. => (KIB, "KiB"),
        _ => return format!("{bytes} B"),
    };
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", bytes / unit)
    } else {
        format!("{:.1} {name}", bytes as f64 / unit as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_with_an_optional_unit() {
        assert_eq!(parse("67108864"), Some(67_108_864));
        assert_eq!(parse("67_108_864"), Some(67_108_864));
        assert_eq!(parse("64MiB"), Some(64 * MIB));
        assert_eq!(parse("64 mib"), Some(64 * MIB));
        assert_eq!(parse("64m"), Some(64 * MIB));
        assert_eq!(parse("64MB"), Some(64_000_000));
        assert_eq!(parse("0"), Some(0));
    }

    proptest::proptest! {
        /// Without the anchors, and with few enough digits to fit.
        #[test]
        fn what_the_pattern_matches_is_a_size(text in PATTERN.trim_matches(['^', '$']).replace('+', "{1,6}").as_str()) {
            assert!(parse(&text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "64 apples", "_", "99999999999999999999", "1e6"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("18446744073709551615KiB"), None, "overflow");
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_fits() {
        assert_eq!(format(0), "0 B");
        assert_eq!(format(1023), "1023 B");
        assert_eq!(format(64 * MIB), "64 MiB");
        assert_eq!(format(1536), "1.5 KiB");
        assert_eq!(format(10 * GIB), "10 GiB");
    }
}
