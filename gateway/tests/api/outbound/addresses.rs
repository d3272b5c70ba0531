//! Addresses that may be called, and addresses that must not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::json;

use super::{GUESTS, NameServer, Upstream, ask, outcomes};
use crate::test_gateway::TestGateway;

const PROHIBITED: &str = "1 x DestinationIpProhibited";

/// Spellings of addresses that are not public. All of them reach this machine or its neighbours if
/// they are dialled.
const SPELLINGS: &str = include_str!("../../../../runtime-pool/tests/private_addresses.txt");

/// Invalid addresses, which fail earlier.
const NO_ADDRESS: &[&str] = &[
    "[fe80::1%251]",
    "127.0.0.1%2f",
    "256.0.0.1",
    "1.2.3.4.5",
    "0x7f.0.0.0.1",
    "127..1",
    "example.com@127.0.0.1",
    "%31%32%37.0.0.1",
    "0x1ffffffff",
];

/// Case S01.
#[tokio::test]
async fn no_spelling_of_a_private_address_is_called() {
    let gateway = TestGateway::start().await;
    let upstream = Upstream::echo().await;
    let port = upstream.port();
    for guest in GUESTS {
        // As many as one function may name.
        for hosts in SPELLINGS.lines().collect::<Vec<_>>().chunks(64) {
            let named: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
            gateway.deploy_with(guest, &json!({ "outbound": named })).await;
            for host in hosts {
                let answer = ask(&gateway, guest, &format!("to={host}:{port}")).await;
                assert_eq!(answer, PROHIBITED, "{guest}: {host}");
            }
        }
        for host in NO_ADDRESS {
            let escaped = host.replace('%', "%25");
            let answer = ask(&gateway, guest, &format!("to={escaped}:{port}")).await;
            let refused = ["1 x HttpRequestUriInvalid", "1 x no authority"];
            assert!(refused.contains(&&*answer), "{guest}: {host}: {answer}");
        }
    }
    assert_eq!(upstream.connections(), 0);
    let prohibited = (GUESTS.len() * SPELLINGS.lines().count()) as f64;
    let outcomes = gateway.metric("mayfly_outbound_requests_total").await;
    assert!(outcomes >= prohibited, "{outcomes}");
}

/// Case S02.
#[tokio::test]
async fn a_name_is_refused_if_one_of_its_addresses_is_prohibited() {
    let upstream = Upstream::echo().await;
    let names = NameServer::start(|name, _| {
        let addresses: &[&str] = match name {
            "good.test" => &["127.0.0.1"],
            "private.test" => &["10.0.0.1"],
            "mixed.test" => &["127.0.0.1", "10.0.0.1"],
            "late.test" => &["127.0.0.1", "127.0.0.1", "127.0.0.1", "169.254.169.254"],
            "six.test" => &["127.0.0.1", "fd00::1"],
            "mapped.test" => &["::ffff:10.0.0.1"],
            "public.test" => &["1.1.1.1", "127.0.0.2"],
            _ => &[],
        };
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    })
    .await;
    let gateway = TestGateway::with(&[&names.setting(), "outbound.permit=127.0.0.1"]).await;
    let port = upstream.port();
    gateway.deploy_with("t-outbound", &json!({"outbound": [format!("*.test:{port}")]})).await;
    let to = async |name: &str| ask(&gateway, "t-outbound", &format!("to={name}:{port}")).await;
    assert!(to("good.test").await.starts_with("1 x 203 "));
    for name in
        ["private.test", "mixed.test", "late.test", "six.test", "mapped.test", "public.test"]
    {
        assert_eq!(to(name).await, PROHIBITED, "{name}");
    }
    assert_eq!(to("missing.test").await, "1 x DnsError");
    assert_eq!(upstream.connections(), 1);
    // The function's log names the reason.
    let lines = gateway.log_lines("t-outbound", 7).await;
    let private = format!(
        "outbound: GET http://private.test:{port}: the address 10.0.0.1 is not public; the \
         operator may permit it with outbound.permit"
    );
    assert!(lines.iter().any(|line| line["line"] == private.as_str()), "{lines:#?}");
}

/// Case S02.
#[tokio::test]
async fn a_dns_response_too_long_for_a_datagram_is_read_to_its_last_address() {
    let upstream = Upstream::echo().await;
    let port = upstream.port();
    let local = |last| IpAddr::from([127, 0, 0, last]);
    let many: Vec<IpAddr> = (1..=200).map(local).collect();
    let private = [many.clone(), vec![IpAddr::from([10, 0, 0, 1])]].concat();
    for (addresses, expected) in [(many, "1 x 203 "), (private, PROHIBITED)] {
        let names = NameServer::over_tcp(addresses).await;
        let gateway = TestGateway::with(&[&names.setting(), "outbound.permit=127.0.0.0/8"]).await;
        let named = [format!("many.test:{port}")];
        gateway.deploy_with("t-outbound", &json!({ "outbound": named })).await;
        let answer = ask(&gateway, "t-outbound", &format!("to=many.test:{port}")).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(names.asked(), 2, "one query for each kind of address");
    }
    assert_eq!(upstream.connections(), 1);
}

/// Case S03.
#[tokio::test]
async fn a_name_that_resolves_differently_later_reaches_only_vetted_addresses() {
    const INVOCATIONS: u32 = 20;
    const EACH: u32 = 50;
    // Closes after each response, so that each request resolves the name.
    let upstream = Upstream::serving(async |mut served| {
        served.head().await;
        served.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let names = NameServer::start(|_, before| {
        let last = if before % 2 == 0 { 1 } else { 2 };
        vec![Ipv4Addr::new(127, 0, 0, last).into()]
    })
    .await;
    let gateway = TestGateway::with(&[&names.setting(), "outbound.permit=127.0.0.1"]).await;
    let port = upstream.port();
    gateway.deploy_with("t-outbound", &json!({"outbound": [format!("flip.test:{port}")]})).await;
    for _ in 0..INVOCATIONS {
        let query = format!("to=flip.test:{port}&times={EACH}");
        let answer = ask(&gateway, "t-outbound", &query).await;
        let pair = "1 x 200 0\n1 x DestinationIpProhibited\n";
        assert_eq!(format!("{answer}\n"), pair.repeat(EACH as usize / 2));
    }
    let called = upstream.called_at();
    assert_eq!(called.len(), (INVOCATIONS * EACH / 2) as usize);
    assert!(called.iter().all(|ip| *ip == IpAddr::from([127, 0, 0, 1])), "{called:?}");
    assert_eq!(names.asked(), INVOCATIONS * EACH, "one resolution for each request");
}

/// Case S05.
#[tokio::test]
async fn the_gateways_own_listeners_are_out_of_reach() {
    // Whatever the operator permits.
    let gateway = TestGateway::with(&["outbound.allow_private=true"]).await;
    let mut hosts: Vec<String> =
        ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::]", "[::1]"].map(str::to_owned).into();
    hosts.extend(if_addrs::get_if_addrs().unwrap().iter().map(|interface| {
        let address = SocketAddr::new(interface.ip(), 1).to_string();
        address.trim_end_matches(":1").to_owned()
    }));
    let ports = [gateway.data().port(), gateway.control_address().port()];
    let named: Vec<String> =
        hosts.iter().flat_map(|host| ports.map(|port| format!("{host}:{port}"))).collect();
    gateway.deploy_with("t-outbound", &json!({ "outbound": named })).await;
    for to in &named {
        let answer = ask(&gateway, "t-outbound", &format!("to={to}&path=/healthz")).await;
        assert_eq!(answer, PROHIBITED, "{to}");
    }
}

/// Case S05.
#[tokio::test]
async fn the_operator_may_open_the_data_plane_to_functions() {
    let gateway = TestGateway::with(&["outbound.allow_data_plane=true"]).await;
    let upstream = Upstream::echo().await;
    let data = gateway.data().to_string();
    let control = gateway.control_address().to_string();
    let other = upstream.host();
    gateway.deploy("hello").await;
    gateway.deploy_with("t-outbound", &json!({"outbound": [data, control, other]})).await;
    let get =
        async |to: &str| ask(&gateway, "t-outbound", &format!("to={to}&path=/f/hello/")).await;
    assert!(get(&data).await.starts_with("1 x 200 "));
    // This opens neither the control plane nor another port of this machine.
    assert_eq!(get(&control).await, PROHIBITED);
    assert_eq!(get(&other).await, PROHIBITED);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn the_operator_permits_and_denies_ranges() {
    let settings = ["outbound.permit=127.0.0.0/8, ::1", "outbound.deny=127.0.0.3"];
    let gateway = TestGateway::with(&settings).await;
    let upstream = Upstream::echo().await;
    let port = upstream.port();
    let hosts = ["127.0.0.1", "127.0.0.2", "[::1]", "127.0.0.3", "10.0.0.1", "[::ffff:127.0.0.1]"];
    let named: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    gateway.deploy_with("t-outbound", &json!({ "outbound": named })).await;
    let (permitted, refused) = named.split_at(3);
    for to in permitted {
        assert!(ask(&gateway, "t-outbound", &format!("to={to}")).await.starts_with("1 x 203 "));
    }
    for to in refused {
        assert_eq!(ask(&gateway, "t-outbound", &format!("to={to}")).await, PROHIBITED, "{to}");
    }
    assert_eq!(outcomes(&gateway, "t-outbound", "not-public").await, 2.0);
    assert_eq!(outcomes(&gateway, "t-outbound", "denied").await, 1.0);
}
