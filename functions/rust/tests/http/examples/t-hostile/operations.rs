//! Does `?n=` random operations on header fields, derived from `?seed=`. Compares the result of
//! each, and the fields after it, with a model.

use std::collections::BTreeMap;

use wasip2::http::types::{Fields, HeaderError, IncomingRequest, ResponseOutparam};

/// After this many operations the fields are cleared, so that they do not become too large.
const ANEW: u64 = 200;

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let mut random = Random(tests_http::number(request, "seed").unwrap_or(1) | 1);
    let mut tried = Tried { fields: Fields::new(), model: BTreeMap::new() };
    let incoming = request.headers();
    for n in 0..tests_http::number(request, "n").unwrap_or(0) {
        if n % ANEW == 0 {
            tried = Tried { fields: Fields::new(), model: BTreeMap::new() };
        }
        if let Err(wrong) = tried.operate(&mut random, &incoming) {
            return tests_http::text(answer, &format!("operation {n}: {wrong}\n"));
        }
    }
    tests_http::text(answer, "as the model says\n");
}

type Outcome = Result<(), HeaderError>;
type Model = BTreeMap<String, Vec<Vec<u8>>>;

struct Tried {
    fields: Fields,
    model: Model,
}

impl Tried {
    fn operate(&mut self, random: &mut Random, incoming: &Fields) -> Result<(), String> {
        let (name, value) = (random.name(), random.value());
        let (did, should) = match random.below(12) {
            0..4 => (self.fields.append(&name, &value), append(&mut self.model, &name, &value)),
            4..6 => {
                let values: Vec<_> = (0..random.below(4)).map(|_| random.value()).collect();
                (self.fields.set(&name, &values), set(&mut self.model, &name, &values))
            }
            6 => (self.fields.delete(&name), delete(&mut self.model, &name)),
            7 => {
                self.fields = self.fields.clone();
                (Ok(()), Ok(()))
            }
            8 => {
                let list: Vec<_> =
                    (0..random.below(5)).map(|_| (random.name(), random.value())).collect();
                let mut model = Model::new();
                let should = list.iter().try_for_each(|(name, value)| append(&mut model, name, value));
                let made = Fields::from_list(&list);
                if should.is_ok() {
                    self.model = model;
                }
                (made.map(|fields| self.fields = fields), should)
            }
            9 => (incoming.append("x-more", b"1"), Err(HeaderError::Immutable)),
            _ => (Ok(()), Ok(())),
        };
        let (did, should) = (format!("{did:?}"), format!("{should:?}"));
        if did != should {
            return Err(format!("{name:?} {value:?}: {did} and not {should}"));
        }
        self.compare(&name)
    }

    fn compare(&self, name: &str) -> Result<(), String> {
        let expected = self.model.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
        let there = self.fields.get(name);
        if there != expected || self.fields.has(name) == expected.is_empty() {
            return Err(format!("{name:?} is {there:?} and not {expected:?}"));
        }
        let mut entries = Model::new();
        for (name, value) in self.fields.entries() {
            entries.entry(name).or_default().push(value);
        }
        if entries == self.model {
            Ok(())
        } else {
            Err(format!("{entries:?} and not {:?}", self.model))
        }
    }
}

fn append(model: &mut Model, name: &str, value: &[u8]) -> Outcome {
    let name = checked(name)?;
    let value = checked_value(&name, value)?;
    let values = model.entry(name.clone()).or_default();
    if name == "content-length" && !values.is_empty() {
        return Err(HeaderError::InvalidSyntax);
    }
    values.push(value);
    Ok(())
}

fn set(model: &mut Model, name: &str, values: &[Vec<u8>]) -> Outcome {
    let name = checked(name)?;
    if name == "content-length" && values.len() > 1 {
        return Err(HeaderError::InvalidSyntax);
    }
    let values: Vec<_> =
        values.iter().map(|value| checked_value(&name, value)).collect::<Result<_, _>>()?;
    model.remove(&name);
    if !values.is_empty() {
        model.insert(name, values);
    }
    Ok(())
}

fn delete(model: &mut Model, name: &str) -> Outcome {
    model.remove(&checked(name)?);
    Ok(())
}

const FORBIDDEN: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// A name as the host keeps it.
fn checked(name: &str) -> Result<String, HeaderError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() >= 1 << 16 || !name.bytes().all(token) {
        return Err(HeaderError::InvalidSyntax);
    }
    let name = name.to_ascii_lowercase();
    if FORBIDDEN.contains(&&*name) { Err(HeaderError::Forbidden) } else { Ok(name) }
}

/// A value as the host keeps it.
fn checked_value(name: &str, value: &[u8]) -> Result<Vec<u8>, HeaderError> {
    if name == "content-length" {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let number = number.filter(|_| digits).ok_or(HeaderError::InvalidSyntax)?;
        return Ok(number.to_string().into_bytes());
    }
    let may_be = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 127);
    if value.iter().all(may_be) { Ok(value.to_vec()) } else { Err(HeaderError::InvalidSyntax) }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn name(&mut self) -> String {
        match self.below(20) {
            0 => "a".repeat(70_000),
            1 => String::new(),
            2..5 => FORBIDDEN[self.below(FORBIDDEN.len() as u64) as usize].to_ascii_uppercase(),
            5 => "Content-Length".to_owned(),
            6..10 => (0..1 + self.below(5)).map(|_| char::from(self.below(256) as u8)).collect(),
            _ => format!("X-{}", self.below(10)),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => (0..self.below(8)).map(|_| self.below(256) as u8).collect(),
            1 => self.below(1_000).to_string().into_bytes(),
            2 => b"00018446744073709551616".to_vec(),
            3 => b"a\r\nb: c".to_vec(),
            _ => vec![b'v'; self.below(100) as usize],
        }
    }
}
