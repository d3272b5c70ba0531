//! What tests ask of the guests that use stores: `/INTERFACE/OPERATION?label=&key=&n=&text=`, and a body,
//! which is the value.

/// What a test asks.
#[derive(Debug, Default)]
pub struct Asked {
    pub interface: String,
    pub operation: String,
    pub label: String,
    pub key: String,
    pub number: i64,
    pub text: String,
    pub body: Vec<u8>,
}

/// What it is answered: a value, nothing, or an error in the words of the interface.
pub type Answer = Result<Option<Vec<u8>>, String>;

impl Asked {
    /// Reads a request.
    pub fn read(target: &str, body: Vec<u8>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_start_matches('/').split('/').map(decoded);
        let mut asked = Self {
            interface: parts.next().unwrap_or_default(),
            operation: parts.next().unwrap_or_default(),
            body,
            ..Self::default()
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match name {
                "label" => asked.label = value,
                "key" => asked.key = value,
                "n" => asked.number = value.parse().unwrap_or_default(),
                "text" => asked.text = value,
                _ => {}
            }
        }
        asked
    }

    /// Several keys, one a line.
    pub fn keys(&self) -> Vec<String> {
        self.key.lines().map(str::to_owned).collect()
    }
}

/// The status and the body of an answer.
pub fn response(answer: Answer) -> (u16, Vec<u8>) {
    match answer {
        Ok(Some(value)) => (200, value),
        Ok(None) => (404, Vec::new()),
        Err(error) => (409, error.into_bytes()),
    }
}

/// Something to show.
pub fn text(text: impl ToString) -> Answer {
    Ok(Some(text.to_string().into_bytes()))
}

/// Nothing to show, but done.
pub fn done<E: std::fmt::Debug>(done: Result<(), E>) -> Answer {
    done.map_err(error).map(|()| Some(Vec::new()))
}

/// An error in the words of its interface.
pub fn error(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// An operation that a guest does not know.
pub fn unknown(asked: &Asked) -> Answer {
    Err(format!("there is no {}/{}", asked.interface, asked.operation))
}

/// `%C3%A4` to `ä`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = |rest: &mut std::str::Bytes<'_>| {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
        };
        bytes.push(if byte == b'%' { digits(&mut rest).unwrap_or(b'%') } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
