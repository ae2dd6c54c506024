use proptest::prelude::*;

use super::*;

impl From<Document> for (Position, String) {
    fn from(document: Document) -> Self {
        (document.position, Value::Object(document.fields).to_string())
    }
}

fn result(syntax: Syntax, text: &str) -> Result<Vec<(Position, String)>, SyntaxError> {
    let chunks: Result<Vec<_>, _> =
        chunks(syntax, text).into_iter().map(|chunk| super::read(syntax, chunk)).collect();
    chunks.map(|chunks| chunks.concat())
}

fn read(syntax: Syntax, text: &str) -> Vec<(Position, String)> {
    result(syntax, text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

#[test]
fn documents_of_a_yaml_text_have_their_lines() {
    let text = "# a comment\na: 1\n---\n---\n# another\n\nb: [x, y]\n---\nnull\n---\n# c\n...\n";
    assert_eq!(
        read(Syntax::Yaml, text),
        [(Position::Line(2), r#"{"a":1}"#.to_owned()), (Position::Line(7), r#"{"b":["x","y"]}"#.to_owned())]
    );
}

#[test]
fn texts_without_objects_are_empty() {
    for (syntax, text) in [
        (Syntax::Yaml, ""),
        (Syntax::Yaml, "\u{feff}"),
        (Syntax::Yaml, "# nothing\n"),
        (Syntax::Yaml, "---\n---\n"),
        (Syntax::Json, ""),
        (Syntax::Json, " \n"),
    ] {
        assert_eq!(read(syntax, text), [], "{text:?}");
    }
}

#[test]
fn lists_are_taken_apart_and_tell_their_entries_the_kind() {
    for (syntax, text) in [
        (Syntax::Yaml, "items:\n- a: 1\n- {a: 2, kind: Own}\n- 3\nkind: PodList\napiVersion: v1\n"),
        (
            Syntax::Json,
            r#"{"kind": "PodList", "apiVersion": "v1", "items": [{"a": 1}, {"a": 2, "kind": "Own"}, 3]}"#,
        ),
    ] {
        assert_eq!(
            read(syntax, text),
            [
                (Position::Item(0), r#"{"a":1,"apiVersion":"v1","kind":"Pod"}"#.to_owned()),
                (Position::Item(1), r#"{"a":2,"apiVersion":"v1","kind":"Own"}"#.to_owned())
            ]
        );
    }
    let nested =
        "kind: List\nitems: [{kind: List, items: [{kind: A}, {b: 1}]}, {kind: FooList, items: null}]";
    assert_eq!(
        read(Syntax::Yaml, nested),
        [(Position::Item(0), r#"{"kind":"A"}"#.to_owned()), (Position::Item(0), r#"{"b":1}"#.to_owned())]
    );
    for items in ["[{kind: A}]", "{a: b}", "text", "1", "-1", "1.5", "true", "null"] {
        assert_eq!(
            read(Syntax::Yaml, &format!("kind: Menu\nitems: {items}")),
            [(Position::Line(1), r#"{"kind":"Menu"}"#.to_owned())],
            "{items}"
        );
        assert_eq!(
            read(Syntax::Yaml, &format!("kind: List\nitems: {items}")).len(),
            usize::from(items == "[{kind: A}]")
        );
    }
}

#[test]
fn several_json_values_may_follow_one_another() {
    assert_eq!(
        read(Syntax::Json, "{\"a\": 1}\n{\"b\": 2}"),
        [(Position::Unknown, r#"{"a":1}"#.to_owned()), (Position::Unknown, r#"{"b":2}"#.to_owned())]
    );
}

#[test]
fn words_are_text_unless_they_are_yaml_1_2() {
    assert_eq!(
        read(Syntax::Yaml, "{a: yes, b: on, c: true, d: 010.0.0.1, e: '1', f: ~, g: 2024-01-01T00:00:00Z}"),
        [(
            Position::Line(1),
            r#"{"a":"yes","b":"on","c":true,"d":"010.0.0.1","e":"1","f":null,"g":"2024-01-01T00:00:00Z"}"#
                .to_owned()
        )]
    );
}

#[test]
fn syntax_errors_name_line_and_column() {
    for (syntax, text, at, message) in [
        (Syntax::Yaml, "a: 1\nb: [1, 2\n", (2, 4), "unclosed bracket '['"),
        (Syntax::Yaml, "a: 1\n---\nb: 1\n c: 2\n", (4, 3), "mapping values are not allowed in this context"),
        (Syntax::Yaml, "a: 1\nb: 2\na: 3\n", (3, 1), "duplicate mapping key `a` is not allowed here"),
        (Syntax::Yaml, "a: *nobody\n", (1, 4), "reference to unknown value"),
        (Syntax::Yaml, "a:\n\tb: 1\n", (2, 2), "tabs disallowed within this context (block indentation)"),
        (
            Syntax::Yaml,
            "a: 1\n--- # b\n- b\n",
            (3, 1),
            "invalid type: sequence, expected a Kubernetes object",
        ),
        (Syntax::Yaml, "text", (1, 1), "invalid type: string \"text\", expected a Kubernetes object"),
        (Syntax::Json, "{\"a\": 1,\n}", (2, 1), "trailing comma"),
        (Syntax::Json, "{\"a\": 1", (1, 7), "EOF while parsing an object"),
    ] {
        let error = result(syntax, text).expect_err(text);
        assert_eq!((error.at, error.message.as_str()), (Some(at), message), "{text}");
    }
}

#[test]
fn anchors_and_merges_work_and_cannot_explode() {
    assert_eq!(
        read(Syntax::Yaml, "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n"),
        [(Position::Line(1), r#"{"a":{"x":1},"b":{"x":1},"c":{"x":1,"y":2}}"#.to_owned())]
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.extend([format!("a{level}: &a{level} [{aliases}]\n")]);
    }
    assert!(result(Syntax::Yaml, &bomb).is_err());
    let deep = "[".repeat(100_000);
    assert!(result(Syntax::Yaml, &deep).is_err());
    assert!(result(Syntax::Json, &deep).is_err());
}

#[test]
fn syntax_is_told_by_the_end_of_the_name() {
    for (name, wanted) in [
        ("a.yaml", Some(Syntax::Yaml)),
        ("a.b.yml", Some(Syntax::Yaml)),
        ("a.json", Some(Syntax::Json)),
        ("a.YAML", None),
        ("yaml", None),
        ("a.yaml.bak", None),
        ("", None),
    ] {
        assert_eq!(Syntax::of(name.as_bytes()), wanted, "{name}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(?s).{0,200}") {
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let _ = result(syntax, &text);
        }
    }

    #[test]
    fn a_text_means_the_same_in_chunks_as_whole(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "---", "---", "--- a: 1", "--- |", "---x", " ---", "...", "kind: List", "items:", "- kind: Service", "  metadata: {name: a}", "  spec:",
                "    ports: [{port: 1}]", "a: &a [b]", "<<: *a", "? x", ": y", "|", ">-", "  - - -", "{", "]", "'",
                "\"", "!!int x", "!<tag> {}", "%YAML 1.2", "\t", "", "# c", "&a", "*a", "a: !!binary xx==",
            ]),
            0..20,
        )
    ) {
        let text = lines.join("\n");
        let whole = super::read(Syntax::Yaml, Chunk { line: 1, text: &text, position: Position::Unknown });
        let values = |read: Vec<(Position, String)>| read.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        match (result(Syntax::Yaml, &text).map(values), whole.map(values)) {
            (Ok(chunks), Ok(whole)) => prop_assert_eq!(chunks, whole),
            (Err(_), Err(_)) => {}
            differing => prop_assert!(false, "{:?}", differing),
        }
    }
}
