//! Checks a TOML document against its schema, and turns it into JSON. All mistakes are found at once,
//! each with its place.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::schema::PARTS;
use crate::config::{nearest::nearest, sizes};

/// So many keys are listed where one is not known; more are left to `mayfly schema`.
const LISTED_MAX: usize = 12;

/// Something that is wrong in a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The byte at which it begins.
    pub(super) offset: usize,
    /// The names of the tables and the key, with dots between them.
    pub(super) path: String,
    pub(super) text: String,
}

/// The document as JSON, or all its mistakes in their order.
pub(super) fn check(table: &DeTable<'_>, schema: &Value) -> Result<Value, Vec<Mistake>> {
    let mut check = Reading { schema, mistakes: Vec::new() };
    let value = check.table(&Location { offset: 0, path: String::new() }, table, schema);
    check.mistakes.sort_by_key(|mistake| mistake.offset);
    if check.mistakes.is_empty() { Ok(value) } else { Err(check.mistakes) }
}

struct Reading<'a> {
    /// The whole schema, whose parts others refer to.
    schema: &'a Value,
    mistakes: Vec<Mistake>,
}

/// Where a value is.
struct Location {
    offset: usize,
    path: String,
}

impl Location {
    fn member(&self, name: &Spanned<Cow<'_, str>>) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { offset: name.span().start, path: format!("{}{dot}{}", self.path, name.get_ref()) }
    }
}

impl<'a> Reading<'a> {
    fn mistake(&mut self, offset: usize, place: &Location, text: String) {
        self.mistakes.push(Mistake { offset, path: place.path.clone(), text });
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let part = schema["$ref"].as_str().and_then(|name| name.strip_prefix(PARTS));
        part.map_or(schema, |part| &self.schema["$defs"][part])
    }

    fn table(&mut self, place: &Location, table: &DeTable<'_>, schema: &'a Value) -> Value {
        let mut read = Map::new();
        for (name, value) in table {
            let member = place.member(name);
            let schema =
                match (&schema["properties"][&**name.get_ref()], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(false)) => {
                        let text = unknown(name.get_ref(), &schema["properties"]);
                        self.mistake(member.offset, place, text);
                        continue;
                    }
                    (Value::Null, others) => others,
                    (known, _) => known,
                };
            read.insert(name.get_ref().to_string(), self.value(&member, value, schema));
        }
        let required = schema["required"].as_array().into_iter().flatten();
        for missing in required.filter_map(Value::as_str).filter(|name| !read.contains_key(*name)) {
            self.mistake(place.offset, place, format!("`{missing}` is missing"));
        }
        read.into()
    }

    /// A value with a mistake becomes null, and is not used.
    fn value(
        &mut self,
        place: &Location,
        value: &Spanned<DeValue<'_>>,
        schema: &'a Value,
    ) -> Value {
        let schema = self.resolved(schema);
        let options = ["oneOf", "anyOf"].iter().find_map(|choice| schema[choice].as_array());
        if let Some(options) = options {
            let options: Vec<&Value> = options.iter().map(|option| self.resolved(option)).collect();
            let fitting = options.iter().find(|option| fits(option, value.get_ref()));
            return match fitting {
                Some(option) => self.value(place, value, option),
                None => self.mismatch(place, value, &options),
            };
        }
        if !fits(schema, value.get_ref()) {
            return self.mismatch(place, value, &[schema]);
        }
        let read = match value.get_ref() {
            DeValue::Table(table) => return self.table(place, table, schema),
            DeValue::Array(items) => return self.array(place, value.span().start, items, schema),
            DeValue::String(text) if schema["pattern"] == sizes::PATTERN => sizes::parse(text)
                .ok_or_else(|| sizes::EXPECTED.to_owned())
                .and_then(|bytes| number(i64::try_from(bytes).ok(), schema)),
            DeValue::String(text) => string(text, schema),
            DeValue::Integer(integer) => number(whole(integer), schema),
            DeValue::Float(float) => float
                .as_str()
                .parse()
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number)
                .ok_or_else(|| "expected a finite number".to_owned()),
            DeValue::Boolean(boolean) => Ok((*boolean).into()),
            DeValue::Datetime(time) => Ok(time.to_string().into()),
        };
        read.unwrap_or_else(|text| {
            self.mistake(value.span().start, place, text);
            Value::Null
        })
    }

    fn array(
        &mut self,
        place: &Location,
        offset: usize,
        items: &[Spanned<DeValue<'_>>],
        schema: &'a Value,
    ) -> Value {
        let count = items.len() as i64;
        if let Some(text) = outside(count, &schema["minItems"], &schema["maxItems"]) {
            self.mistake(
                offset,
                place,
                format!("expected an array with {text} items, found {count}"),
            );
        }
        let items = items.iter().enumerate().map(|(index, item)| {
            let path = format!("{}[{index}]", place.path);
            self.value(&Location { offset: item.span().start, path }, item, &schema["items"])
        });
        items.collect()
    }

    fn mismatch(
        &mut self,
        place: &Location,
        value: &Spanned<DeValue<'_>>,
        options: &[&Value],
    ) -> Value {
        let expected: Vec<&str> =
            options.iter().flat_map(|option| types(option)).map(in_words).collect();
        let found = in_words(type_of(value.get_ref()));
        let text = format!("expected {}, found {found}", expected.join(" or "));
        // The value of a table begins at its header, and its name tells more.
        let offset = match value.get_ref() {
            DeValue::Table(_) => place.offset,
            _ => value.span().start,
        };
        self.mistake(offset, place, text);
        Value::Null
    }
}

fn unknown(name: &str, properties: &Value) -> String {
    let known: Vec<&str> =
        properties.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.len() <= LISTED_MAX => format!("there are `{}`", known.join("`, `")),
        None => "`mayfly schema` lists those that there are".to_owned(),
    };
    format!("unknown key `{name}`; {hint}")
}

fn string(text: &str, schema: &Value) -> Result<Value, String> {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        if !words.contains(&text) {
            let near = nearest(text, words.iter().copied());
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("expected one of `{}`, found `{text}`{hint}", words.join("`, `")));
        }
    }
    let length = text.chars().count() as i64;
    match outside(length, &schema["minLength"], &schema["maxLength"]) {
        Some(expected) => {
            Err(format!("expected a string of {expected} characters, found {length}"))
        }
        None => Ok(text.into()),
    }
}

/// `None` stands for a number that does not fit.
fn number(number: Option<i64>, schema: &Value) -> Result<Value, String> {
    let number = number.ok_or("expected a smaller integer")?;
    match outside(number, &schema["minimum"], &schema["maximum"]) {
        Some(expected) => Err(format!("expected {expected}, found {number}")),
        None => Ok(number.into()),
    }
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Which numbers there may be, if `number` is none of them.
fn outside(number: i64, minimum: &Value, maximum: &Value) -> Option<String> {
    let (minimum, maximum) = (minimum.as_i64(), maximum.as_i64());
    let is_outside =
        minimum.is_some_and(|least| number < least) || maximum.is_some_and(|most| number > most);
    is_outside.then(|| match (minimum, maximum) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, most) => format!("at most {}", most.unwrap_or_default()),
    })
}

/// Whether a value has a type that the schema allows.
fn fits(schema: &Value, value: &DeValue<'_>) -> bool {
    let found = type_of(value);
    let mut types = types(schema).peekable();
    types.peek().is_none()
        || types.any(|wanted| wanted == found || (wanted == "number" && found == "integer"))
}

/// The types that a schema allows; none if it allows all.
fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema["type"].as_str();
    let several = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several)
}

/// The type of a value, as JSON Schema calls it. It has no word for a time.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "time",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

fn in_words(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "time" => "a time",
        "array" => "an array",
        _ => "a table",
    }
}
