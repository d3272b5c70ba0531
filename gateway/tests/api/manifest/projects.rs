//! `mayfly apply` and `mayfly diff` against a running gateway.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{SHOP, text};
use crate::{
    guests::path,
    terminal::in_a_terminal,
    test_gateway::{MAYFLY, TestGateway, mayfly, run},
};

/// A directory with a manifest and its artifact.
struct Project {
    gateway: TestGateway,
    dir: TempDir,
}

impl Project {
    async fn with(manifest: &str) -> Self {
        let project =
            Self { gateway: TestGateway::start().await, dir: tempfile::tempdir().unwrap() };
        symlink(path("c-hello"), project.path("hello.wasm")).unwrap();
        project.write(manifest);
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, manifest: &str) {
        fs::write(self.path("mayfly.toml"), manifest).unwrap();
    }

    /// Runs a command in the directory of the project.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = mayfly(arguments);
        command.env("MAYFLY_DATA_DIR", self.gateway.data_dir()).current_dir(self.dir.path());
        run(command).await
    }

    /// The exit code and standard output of a command that says nothing else.
    async fn says(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments).await;
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        (output.status.code().unwrap(), text(&output.stdout).to_owned())
    }

    /// Standard error of a command that fails with exit code 1.
    async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        text(&output.stderr).to_owned()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, printed) = self.says(&[arguments, &["--output", "json"]].concat()).await;
        assert_eq!(code, 0, "{arguments:?}: {printed}");
        serde_json::from_str(&printed).unwrap()
    }
}

/// The steps of a plan, each as its action, kind and name.
fn steps(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap().iter();
    let words = |step: &Value| {
        ["action", "kind", "name"].map(|word| step[word].as_str().unwrap().to_owned())
    };
    let mut steps: Vec<String> = steps.map(|step| words(step).join(" ")).collect();
    steps.sort();
    steps
}

/// Case J01.
#[tokio::test]
async fn a_project_is_made_and_the_same_manifest_changes_nothing() {
    let shop = Project::with(SHOP).await;
    let (code, plan) = shop.says(&["diff"]).await;
    assert_eq!(code, 2, "{plan}");
    assert!(plan.ends_with("\n6 to create\n") && !plan.contains("hunter2"), "{plan}");
    assert_eq!(shop.says(&["apply", "--dry-run"]).await, (0, plan));
    assert_eq!(shop.gateway.get("/hello").await.status(), 404);

    let (code, applied) = shop.says(&["apply"]).await;
    assert!(code == 0 && applied.ends_with("\n6 created\n"), "{applied}");
    assert_eq!(shop.gateway.get("/hello").await.text(), "hello from c\n");
    assert_eq!(shop.says(&["diff"]).await, (0, "6 unchanged\n".to_owned()));
    assert_eq!(shop.says(&["apply"]).await, (0, "6 unchanged\n".to_owned()));
    let view = shop.json(&["show", "hello"]).await;
    assert_eq!(
        (&view["revision"], &view["limits"]["memory_bytes"]),
        (&1.into(), &(64 << 20).into())
    );
}

/// Case J02.
#[tokio::test]
async fn a_plan_names_what_changes_and_scripts_get_it_as_json() {
    let shop = Project::with(SHOP).await;
    let made = shop.json(&["apply"]).await;
    assert_eq!((&made["project"], &made["applied"]), (&"shop".into(), &true.into()));
    shop.write(
        &SHOP.replace("2000", "500").replace("hunter2", "swordfish").replace("@daily", "@hourly"),
    );
    let (code, plan) = shop.says(&["diff"]).await;
    assert_eq!(code, 2);
    for part in ["settings.timeout_ms", "2000", "500", "PASSWORD", "@hourly"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(!plan.contains("hunter2") && !plan.contains("swordfish"), "{plan}");
    let planned = shop.json(&["apply", "--dry-run"]).await;
    assert_eq!(planned["applied"], false);
    let applied = shop.json(&["apply"]).await;
    assert_eq!((steps(&applied), &applied["applied"]), (steps(&planned), &true.into()));
    assert_eq!(shop.json(&["show", "hello"]).await["settings"]["timeout_ms"], 500);
}

/// Case J03.
#[tokio::test]
async fn what_a_manifest_names_no_more_is_deleted_only_when_asked_for() {
    let shop = Project::with(SHOP).await;
    shop.says(&["apply"]).await;
    // Not of the project, so that it is never pruned.
    shop.gateway.deploy("c-hello").await;
    let without_queue = SHOP.replace("[queues.orders]\nfunction = \"hello\"\n", "");
    shop.write(&without_queue);
    assert_eq!(shop.says(&["apply"]).await, (0, "5 unchanged\n".to_owned()));

    // Without a terminal there is no question, and without an answer nothing is deleted.
    let output = shop.run(&["apply", "--prune"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("hint: add --yes"), "{output:?}");
    let asked = |typed: &str| {
        let mut command = in_a_terminal(MAYFLY, typed);
        command.args(["apply", "--prune"]).current_dir(shop.dir.path());
        command.env("MAYFLY_DATA_DIR", shop.gateway.data_dir()).stdin(Stdio::null());
        run(command)
    };
    let no = asked("n\n").await;
    assert_eq!(no.status.code(), Some(1), "{no:?}");
    assert!(text(&no.stdout).contains("Apply this plan, which deletes 1 thing? [y/N]"), "{no:?}");
    assert_eq!(shop.json(&["queue", "list"]).await["queues"].as_array().unwrap().len(), 1);
    let yes = asked("y\n").await;
    assert_eq!(yes.status.code(), Some(0), "{yes:?}");
    assert!(shop.json(&["queue", "list"]).await["queues"].as_array().unwrap().is_empty());

    shop.write("project = \"shop\"");
    let (code, applied) = shop.says(&["apply", "--prune", "--yes"]).await;
    assert!(code == 0 && applied.contains("delete  function  hello"), "{applied}");
    let left = shop.json(&["list"]).await;
    assert_eq!(left["functions"].as_array().unwrap().len(), 1, "{left}");
}

/// Case J04.
#[tokio::test]
async fn a_mistake_that_only_the_gateway_finds_has_its_line_and_column() {
    let shop = Project::with(
        &SHOP.replace("\nfunction = \"hello\"\nstrip", "\nfunction = \"gone\"\nstrip"),
    )
    .await;
    let told = shop.fails(&["apply"]).await;
    assert!(told.contains("mayfly.toml:15:1: routes.hello.function: "), "{told}");
    assert!(shop.json(&["list"]).await["functions"].as_array().unwrap().is_empty());
    shop.write(&SHOP.replace("2000", "86400000"));
    let told = shop.fails(&["diff"]).await;
    assert!(told.contains("mayfly.toml:6:1: functions.hello.settings.timeout_ms: "), "{told}");
}

/// Case J05.
#[tokio::test]
async fn files_are_sent_once_and_belong_to_the_revision() {
    let manifest = "project = \"site\"\nfunctions.site = { artifact = \"site.wasm\", files = { path = \"public\", at = \"/srv\" } }";
    let site = Project::with(manifest).await;
    symlink(path("t-files"), site.path("site.wasm")).unwrap();
    fs::create_dir_all(site.path("public/a")).unwrap();
    fs::write(site.path("public/a/b.txt"), "one").unwrap();
    site.says(&["apply"]).await;
    let listed = site.json(&["files", "site"]).await;
    assert_eq!(listed["entries"][0]["path"], "a/b.txt");
    let view = site.json(&["show", "site"]).await;
    assert_eq!(view["settings"]["files"]["at"], "/srv");
    assert_eq!(site.says(&["apply"]).await.1, "1 unchanged\n");
    fs::write(site.path("public/a/b.txt"), "two").unwrap();
    let (_, plan) = site.says(&["apply"]).await;
    assert!(plan.contains("settings.files") && plan.ends_with("\n1 changed\n"), "{plan}");
    assert_eq!(site.json(&["show", "site"]).await["revision"], 2);
}

/// Case J08.
#[tokio::test]
async fn a_file_is_deployed_by_the_manifest_that_check_prints() {
    for (guest, outbound) in [("fetch", true), ("c-hello-cgi", false)] {
        let project = Project::with("").await;
        symlink(path(guest), project.path("My Function.wasm")).unwrap();
        let checked = project.json(&["check", "My Function.wasm"]).await;
        let manifest = checked["manifest"].as_str().unwrap();
        assert_eq!(manifest.contains("\noutbound = []\n"), outbound, "{manifest}");
        project.write(manifest);
        assert_eq!(project.json(&["apply"]).await["project"], "my-function");
        let listed = project.json(&["list"]).await;
        assert_eq!(listed["functions"][0]["name"], "my-function");
    }
}
