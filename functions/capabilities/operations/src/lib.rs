//! The operations of each interface whose functions are not asynchronous, for guests of both versions of
//! WASI.

use protocol::{Answer, Asked, done, error, text, unknown};

wit_bindgen::generate!({ path: "../wit", world: "imports", generate_all });

use fermyon::spin;
use mayfly::keyvalue::store as own;
use wasi::{config0_2_0_draft as config, keyvalue0_2_0_draft as draft, keyvalue0_2_0_draft2 as draft2};

/// Does what a test asks.
pub fn answer(asked: &Asked) -> Answer {
    match asked.interface.as_str() {
        "draft" => of_draft(asked),
        "draft2" => of_draft2(asked),
        "spin" => of_spin(asked),
        "mayfly" => of_mayfly(asked),
        "variables" => spin::variables::get(&asked.key).map_err(error).and_then(text),
        "config-draft" => of_config(asked, config::store::get, config::store::get_all),
        "config-runtime" => of_config(asked, config::runtime::get, config::runtime::get_all),
        "config-2024" => {
            use wasi::config0_2_0_draft_2024_09_27::store;
            of_config(asked, store::get, store::get_all)
        }
        "config-rc" => {
            use wasi::config0_2_0_rc_1::store;
            of_config(asked, store::get, store::get_all)
        }
        "logging-draft" => {
            use wasi::logging0_1_0_draft::logging::{Level, log};
            log(Level::Warn, &asked.label, &asked.text);
            Ok(None)
        }
        "logging" => {
            use wasi::logging::logging::{Level, log};
            log(Level::Critical, &asked.label, &asked.text);
            Ok(None)
        }
        _ => unknown(asked),
    }
}

/// The operations that `wasi:keyvalue` and Spin share.
macro_rules! entries {
    ($asked:expr, $store:expr, $open:expr) => {{
        let (asked, store) = ($asked, $store);
        match asked.operation.as_str() {
            "get" => Some(store.get(&asked.key).map_err(error)),
            "set" => Some(done(store.set(&asked.key, &asked.body))),
            "delete" => Some(done(store.delete(&asked.key))),
            "exists" => Some(store.exists(&asked.key).map_err(error).and_then(text)),
            // One operation after the other, until one fails.
            "repeat" => {
                let mut count = 0;
                while count < asked.number && store.get(&asked.key).is_ok() {
                    count += 1;
                }
                Some(text(count))
            }
            // One handle after the other, until one fails.
            "open" => {
                let mut open = Vec::new();
                let why = loop {
                    match $open(&asked.label) {
                        Ok(_) if open.len() as i64 >= asked.number => break "enough".to_owned(),
                        Ok(store) => open.push(store),
                        Err(why) => break error(why),
                    }
                };
                Some(text(format!("{} {why}", open.len())))
            }
            _ => None,
        }
    }};
}

fn of_draft(asked: &Asked) -> Answer {
    use draft::{atomics, batch, store};
    let bucket = store::open(&asked.label).map_err(error)?;
    if let Some(answer) = entries!(asked, &bucket, store::open) {
        return answer;
    }
    match asked.operation.as_str() {
        "increment" => {
            let sum = atomics::increment(&bucket, &asked.key, asked.number.cast_unsigned());
            sum.map_err(error).and_then(text)
        }
        "list" => {
            let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = bucket.list_keys(cursor).map_err(error)?;
                all.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break text(format!("{pages}\n{}", all.join("\n")));
                }
            }
        }
        "cursor" => {
            let page = bucket.list_keys(Some(asked.number.cast_unsigned()));
            page.map_err(error).and_then(|page| text(page.keys.join("\n")))
        }
        "get-many" => {
            let found = batch::get_many(&bucket, &asked.keys()).map_err(error)?;
            text(lines(found.into_iter().map(|pair| match pair {
                Some((key, value)) => (key, Some(value)),
                None => ("-".to_owned(), None),
            })))
        }
        "set-many" => done(batch::set_many(&bucket, &pairs(asked))),
        "delete-many" => done(batch::delete_many(&bucket, &asked.keys())),
        _ => unknown(asked),
    }
}

fn of_draft2(asked: &Asked) -> Answer {
    use draft2::{atomics, batch, store};
    let bucket = store::open(&asked.label).map_err(error)?;
    if let Some(answer) = entries!(asked, &bucket, store::open) {
        return answer;
    }
    match asked.operation.as_str() {
        "increment" => {
            let sum = atomics::increment(&bucket, &asked.key, asked.number);
            sum.map_err(error).and_then(text)
        }
        "list" => {
            let (mut all, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
            loop {
                let page = bucket.list_keys(cursor.as_deref()).map_err(error)?;
                all.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break text(format!("{pages}\n{}", all.join("\n")));
                }
            }
        }
        "get-many" => {
            let found = batch::get_many(&bucket, &asked.keys()).map_err(error)?;
            text(lines(found.into_iter()))
        }
        "set-many" => done(batch::set_many(&bucket, &pairs(asked))),
        "delete-many" => done(batch::delete_many(&bucket, &asked.keys())),
        // Another writes `text` in between, if there is one.
        "cas" => {
            let cas = atomics::Cas::new(&bucket, &asked.key).map_err(error)?;
            let before = cas.current().map_err(error)?;
            if !asked.text.is_empty() {
                bucket.set(&asked.key, asked.text.as_bytes()).map_err(error)?;
            }
            let shown = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
            match atomics::swap(cas, &asked.body) {
                Ok(()) => text(format!("swapped {:?}", shown(before))),
                Err(atomics::CasError::CasFailed(cas)) => {
                    let found = cas.current().map_err(error)?;
                    text(format!("failed {:?} {:?}", shown(before), shown(found)))
                }
                Err(atomics::CasError::StoreError(why)) => Err(error(why)),
            }
        }
        "many-cas" => {
            let mut open = Vec::new();
            let why = loop {
                match atomics::Cas::new(&bucket, &asked.key) {
                    Ok(_) if open.len() as i64 >= asked.number => break "enough".to_owned(),
                    Ok(cas) => open.push(cas),
                    Err(why) => break error(why),
                }
            };
            text(format!("{} {why}", open.len()))
        }
        _ => unknown(asked),
    }
}

fn of_spin(asked: &Asked) -> Answer {
    use spin::key_value::Store;
    let store = Store::open(&asked.label).map_err(error)?;
    if let Some(answer) = entries!(asked, &store, Store::open) {
        return answer;
    }
    match asked.operation.as_str() {
        "list" => store.get_keys().map_err(error).and_then(|keys| text(keys.join("\n"))),
        _ => unknown(asked),
    }
}

fn of_mayfly(asked: &Asked) -> Answer {
    let bucket = own::Bucket::open(&asked.label).map_err(error)?;
    let shown = |entry: own::Entry| {
        let own::Entry { value, version, expires_ms, metadata } = entry;
        let value = String::from_utf8_lossy(&value).into_owned();
        format!("{version} {} {metadata:?} {value}", expires_ms.is_some())
    };
    match asked.operation.as_str() {
        "get" => match bucket.get(&asked.key).map_err(error)? {
            Some(entry) => text(shown(entry)),
            None => Ok(None),
        },
        // `text` is `VERSION,TTL,METADATA`, each of which may be left out.
        "put" => {
            let mut options = asked.text.splitn(3, ',');
            let mut next = || options.next().filter(|option| !option.is_empty());
            let options = own::PutOptions {
                if_version: next().and_then(|text| text.parse().ok()),
                ttl_ms: next().and_then(|text| text.parse().ok()),
                metadata: next().map(str::to_owned),
            };
            match bucket.put(&asked.key, &asked.body, &options) {
                Ok(version) => text(version),
                Err(own::PutError::Conflict(found)) => {
                    Err(format!("conflict {:?}", found.map(shown)))
                }
                Err(own::PutError::Failed(why)) => Err(error(why)),
            }
        }
        "delete" => {
            let version = Some(asked.number.cast_unsigned()).filter(|_| asked.number >= 0);
            bucket.delete(&asked.key, version).map_err(error).and_then(text)
        }
        "list" => {
            let after = Some(asked.text.as_str()).filter(|after| !after.is_empty());
            let limit = asked.number.try_into().unwrap_or(u32::MAX);
            let page = bucket.list(&asked.key, after, limit).map_err(error)?;
            let keys = page.keys.into_iter().map(|key| {
                format!("{} {} {:?}", key.name, key.expires_ms.is_some(), key.metadata)
            });
            text(format!("{}\n{}", page.more, keys.collect::<Vec<_>>().join("\n")))
        }
        "increment" => {
            bucket.increment(&asked.key, asked.number).map_err(error).and_then(text)
        }
        _ => unknown(asked),
    }
}

fn of_config<E: std::fmt::Debug>(
    asked: &Asked,
    get: impl Fn(&str) -> Result<Option<String>, E>,
    get_all: impl Fn() -> Result<Vec<(String, String)>, E>,
) -> Answer {
    match asked.operation.as_str() {
        "get" => Ok(get(&asked.key).map_err(error)?.map(String::into_bytes)),
        "all" => {
            let all = get_all().map_err(error)?;
            let all = all.into_iter().map(|(name, value)| format!("{name}={value}"));
            text(all.collect::<Vec<_>>().join("\n"))
        }
        _ => unknown(asked),
    }
}

/// `KEY=VALUE`, or `KEY` where there is no value.
fn lines(found: impl Iterator<Item = (String, Option<Vec<u8>>)>) -> String {
    let lines = found.map(|(key, value)| match value {
        Some(value) => format!("{key}={}", String::from_utf8_lossy(&value)),
        None => key,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Each key with the body as its value.
fn pairs(asked: &Asked) -> Vec<(String, Vec<u8>)> {
    asked.keys().into_iter().map(|key| (key, asked.body.clone())).collect()
}
