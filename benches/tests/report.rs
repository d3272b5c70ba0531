//! The load harness as a program, with the shortest times that it allows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Builds the guest if it is missing.
fn dist() -> PathBuf {
    let dist = benches::guest::dist();
    if !dist.join("c-hello.wasm").is_file() {
        let build = dist.with_file_name("build");
        let output = Command::new(build).arg("c-hello").output().expect("functions/build is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    dist
}

#[test]
fn a_report_has_a_row_for_each_target_and_load() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let readme = dir.path().join("readme.md");
    let marked = "before\n<!-- comparison:begin -->\n<!-- comparison:end -->\nafter\n";
    fs::write(&readme, marked).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["report", "--peers", "none", "--guests", "c-hello", "--rounds", "1"])
        .args(["--connections", "1,4", "--seconds", "0.2", "--warm-up-ms", "50"])
        .args(["--rates", "0.3,50/s", "--gateway-set", "pool.async_engine=false"])
        .args(["--peer", "absent=exit 3 {port}"])
        .args([Path::new("--dist"), &dist(), Path::new("--scratch"), dir.path()])
        .args([Path::new("--out"), &out, Path::new("--summary-in"), &readme])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let text = fs::read_to_string(out.join("comparison.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names = ["bare axum", "mayfly", "mayfly (pool.async_engine=false)"];
    let of = |target: &str| rows.iter().filter(|row| row["target"] == target).count();
    // Two numbers of connections, each in a closed loop and two open ones.
    assert_eq!(names.map(of), [6; 3], "{text}");
    assert_eq!(rows.len(), 18);
    for row in rows {
        assert_eq!((&row["errors"], &row["unanswered"]), (&0.into(), &0.into()), "{row:#}");
    }
    // On a busy machine a server may answer nothing in the short time of one row.
    let is_measured = |row: &&Value| {
        let above_zero = |figure: &str| row[figure]["median"].as_f64().is_some_and(|it| it > 0.0);
        row["requests"].as_u64() > Some(0)
            && above_zero("p50_us")
            && above_zero("requests_to_bare_axum")
    };
    for name in names {
        assert!(rows.iter().filter(is_measured).any(|row| row["target"] == name), "{text}");
    }
    assert_eq!(report["points"].as_array().unwrap().len(), 18);
    assert_eq!(report["missing"][0]["name"], "absent");
    let reason = report["missing"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the server ended (exit status: 3)"), "{reason}");
    for target in report["targets"].as_array().unwrap() {
        assert!(target["idle"]["rss_mb"].as_f64().unwrap() > 0.0, "{target:#}");
        assert!(target["after_load"]["rss_mb"].as_f64().unwrap() > 0.0, "{target:#}");
    }

    let markdown = fs::read_to_string(out.join("comparison.md")).unwrap();
    for plot in ["throughput", "cpu", "latency-closed", "latency-open", "memory"] {
        let name = format!("c-hello.{plot}.svg");
        assert!(fs::read_to_string(out.join(&name)).unwrap().starts_with("<svg"), "{name}");
        assert!(markdown.contains(&format!("({name})")), "{name}");
    }
    let readme = fs::read_to_string(readme).unwrap();
    assert!(readme.starts_with("before\n") && readme.ends_with("after\n"), "{readme}");
    assert!(readme.contains("| bare axum | "), "{readme}");
}
