//! Renders a page by a template engine: a table with as many rows as the query says.

fn main() {
    let rows: u32 = std::env::var("QUERY_STRING").ok().and_then(|q| q.parse().ok()).unwrap_or(3);
    let mut engine = minijinja::Environment::new();
    engine
        .add_template(
            "page.html",
            "<table>{% for row in rows %}\n<tr><td>{{ loop.index }}</td><td>{{ row|upper }}</td></tr>\
             {% endfor %}\n</table>\n",
        )
        .expect("the template is valid");
    let rows: Vec<_> = (0..rows).map(|row| format!("row <{row}>")).collect();
    let page = engine.get_template("page.html").and_then(|page| page.render(minijinja::context!(rows)));
    print!("Content-Type: text/html\n\n{}", page.expect("it renders"));
}
