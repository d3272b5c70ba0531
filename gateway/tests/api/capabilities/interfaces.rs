//! Each interface in each of its versions, on both engines.

use super::{ask, deploy, deploy_as, encoded, refused, told};
use crate::test_gateway::TestGateway;
use serde_json::json;

/// The guests that import every interface whose functions are not asynchronous: WASI 0.2 and 0.3.
const EVERY: [&str; 2] = ["t-every", "t-every-p3"];

/// Case I01.
#[tokio::test]
async fn entries_are_read_written_and_removed_by_each_interface_on_both_engines() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy(&gateway, guest).await;
        for interface in ["draft", "draft2", "spin"] {
            let at = |operation: &str, key: &str| {
                format!("{interface}/{operation}?key={}", encoded(&format!("{interface}/{key}")))
            };
            assert_eq!(ask(&gateway, guest, &at("get", "a"), "").await.status(), 404);
            assert_eq!(told(&gateway, guest, &at("exists", "a"), "").await, "false");
            let value = "grüß \u{0} dich".to_owned();
            told(&gateway, guest, &at("set", "a"), &value).await;
            assert_eq!(told(&gateway, guest, &at("get", "a"), "").await, value);
            assert_eq!(told(&gateway, guest, &at("exists", "a"), "").await, "true");
            told(&gateway, guest, &at("set", "a"), "").await;
            assert_eq!(told(&gateway, guest, &at("get", "a"), "").await, "");
            told(&gateway, guest, &at("delete", "a"), "").await;
            told(&gateway, guest, &at("delete", "a"), "").await;
            assert_eq!(ask(&gateway, guest, &at("get", "a"), "").await.status(), 404);
        }
        // What one interface has written, the others read.
        told(&gateway, guest, "draft/set?key=shared", "one").await;
        for interface in ["draft2", "spin"] {
            assert_eq!(
                told(&gateway, guest, &format!("{interface}/get?key=shared"), "").await,
                "one"
            );
        }
        let entry = told(&gateway, guest, "mayfly/get?key=shared", "").await;
        assert!(entry.ends_with(" false None one"), "{entry}");
    }
}

/// Case I02.
#[tokio::test]
async fn counters_are_text_and_the_same_for_all_interfaces() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy(&gateway, guest).await;
        told(&gateway, guest, "draft/delete?key=n", "").await;
        assert_eq!(told(&gateway, guest, "draft/increment?key=n&n=5", "").await, "5");
        assert_eq!(told(&gateway, guest, "draft2/increment?key=n&n=-7", "").await, "-2");
        assert_eq!(told(&gateway, guest, "mayfly/increment?key=n&n=1", "").await, "-1");
        assert_eq!(told(&gateway, guest, "spin/get?key=n", "").await, "-1");
        let negative = refused(&gateway, guest, "draft/increment?key=n&n=0", "").await;
        assert!(negative.contains("negative"), "{negative}");
        told(&gateway, guest, "draft2/set?key=n", "9223372036854775807").await;
        let over = refused(&gateway, guest, "draft2/increment?key=n&n=1", "").await;
        assert!(over.starts_with("Error::Other") || over.starts_with("Other"), "{over}");
        told(&gateway, guest, "draft2/set?key=n", "many").await;
        let text = refused(&gateway, guest, "draft/increment?key=n&n=1", "").await;
        assert!(text.contains("Other("), "{text}");
    }
}

/// Case I03.
#[tokio::test]
async fn several_entries_at_once_have_both_shapes_of_the_second_draft() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy(&gateway, guest).await;
        for interface in ["draft", "draft2"] {
            let absent = if interface == "draft" { "-" } else { "none" };
            let keys = "b%0aa%0anone";
            told(&gateway, guest, &format!("{interface}/set-many?key=a%0ab"), "v").await;
            let found =
                told(&gateway, guest, &format!("{interface}/get-many?key={keys}"), "").await;
            assert_eq!(found, format!("b=v\na=v\n{absent}"), "{interface}");
            told(&gateway, guest, &format!("{interface}/delete-many?key=a%0ab"), "").await;
            let found = told(&gateway, guest, &format!("{interface}/get-many?key=a"), "").await;
            assert!(!found.contains('='), "{found}");
        }
    }
    deploy(&gateway, "t-other-shape").await;
    assert_eq!(
        told(&gateway, "t-other-shape", "draft2/get-many?key=a%0ab", "").await,
        "a=value\n-"
    );
}

/// Case I04.
#[tokio::test]
async fn lists_have_each_key_once_in_order_whatever_their_cursors_are() {
    let gateway = TestGateway::start().await;
    let keys: Vec<String> = (0..700).map(|n| format!("k{n:04}")).collect();
    for guest in EVERY {
        deploy(&gateway, guest).await;
        told(&gateway, guest, &format!("draft/set-many?key={}", keys.join("%0a")), "v").await;
        for interface in ["draft", "draft2"] {
            let listed = told(&gateway, guest, &format!("{interface}/list"), "").await;
            let (pages, listed) = listed.split_once('\n').unwrap();
            assert_eq!(listed.lines().collect::<Vec<_>>(), keys, "{interface}");
            assert!(pages.parse::<u32>().unwrap() > 1, "{pages} pages");
        }
        let all = told(&gateway, guest, "spin/list", "").await;
        assert_eq!(all.lines().collect::<Vec<_>>(), keys);
        let unknown = refused(&gateway, guest, "draft/cursor?n=77", "").await;
        assert!(unknown.contains("cursor"), "{unknown}");
        let page = told(&gateway, guest, "mayfly/list?key=k01&text=k0197&n=2", "").await;
        assert_eq!(page, "false\nk0198 false None\nk0199 false None");
        let page = told(&gateway, guest, "mayfly/list?key=k01&text=k0197&n=1", "").await;
        assert_eq!(page, "true\nk0198 false None");
    }
}

/// Case I05.
#[tokio::test]
async fn a_value_is_swapped_only_if_it_is_as_it_was() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy(&gateway, guest).await;
        told(&gateway, guest, "draft2/delete?key=c", "").await;
        assert_eq!(told(&gateway, guest, "draft2/cas?key=c", "one").await, "swapped None");
        assert_eq!(
            told(&gateway, guest, "draft2/cas?key=c", "two").await,
            r#"swapped Some("one")"#
        );
        assert_eq!(
            told(&gateway, guest, "draft2/cas?key=c&text=between", "three").await,
            r#"failed Some("two") Some("between")"#
        );
        // The same bytes, written again, are another version.
        assert_eq!(
            told(&gateway, guest, "draft2/cas?key=c&text=between", "three").await,
            r#"failed Some("between") Some("between")"#
        );
        assert_eq!(told(&gateway, guest, "draft2/get?key=c", "").await, "between");
    }
}

/// Case I06.
#[tokio::test]
async fn our_own_interface_has_versions_expiry_and_texts() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy(&gateway, guest).await;
        told(&gateway, guest, "draft/delete?key=m", "").await;
        let first = told(&gateway, guest, "mayfly/put?key=m&text=0,,note", "one").await;
        let entry = told(&gateway, guest, "mayfly/get?key=m", "").await;
        assert_eq!(entry, format!(r#"{first} false Some("note") one"#));
        let conflict = refused(&gateway, guest, "mayfly/put?key=m&text=0", "two").await;
        assert!(conflict.starts_with("conflict Some") && conflict.contains("one"), "{conflict}");
        let second = told(&gateway, guest, &format!("mayfly/put?key=m&text={first}"), "two").await;
        assert!(second.parse::<u64>().unwrap() > first.parse().unwrap());
        assert_eq!(
            told(&gateway, guest, &format!("mayfly/delete?key=m&n={first}"), "").await,
            "false"
        );
        assert_eq!(
            told(&gateway, guest, &format!("mayfly/delete?key=m&n={second}"), "").await,
            "true"
        );
        assert_eq!(told(&gateway, guest, "mayfly/delete?key=m&n=-1", "").await, "false");

        told(&gateway, guest, "mayfly/put?key=m&text=,1", "soon gone").await;
        crate::client::eventually("the entry expires", async || {
            (ask(&gateway, guest, "mayfly/get?key=m", "").await.status() == 404).then_some(())
        })
        .await;
        let wrong = refused(&gateway, guest, "mayfly/put?key=m&text=,0", "").await;
        assert!(wrong.contains("expires"), "{wrong}");
        let long = format!("mayfly/put?key=m&text=,,{}", "x".repeat(1_025));
        assert!(refused(&gateway, guest, &long, "").await.contains("TooLarge"));
    }
}

/// Case I07.
#[tokio::test]
async fn lines_of_the_logging_interfaces_are_in_the_functions_log() {
    let gateway = TestGateway::start().await;
    for guest in EVERY {
        deploy_as(&gateway, guest, guest, &json!({"ungranted": "deny"})).await;
        ask(&gateway, guest, "logging-draft/log?label=cart&text=almost%20full", "").await;
        ask(&gateway, guest, "logging/log?text=gone", "").await;
        let lines = gateway.log_lines(guest, 2).await;
        let lines: Vec<_> = lines.iter().map(|line| (&line["stream"], &line["line"])).collect();
        let stream = json!("stderr");
        let expected = [json!("[warn] cart: almost full"), json!("[error] gone")];
        assert_eq!(lines, [(&stream, &expected[0]), (&stream, &expected[1])]);
    }
}
