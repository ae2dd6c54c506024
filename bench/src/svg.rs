//! What the charts are written with.

use std::fmt::Write;

/// A file of a size, with a title at a place and no end yet.
pub(crate) fn page((width, height): (f64, f64), at: (f64, f64), title: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    words(&mut out, at, "start", &format!("<tspan font-size=\"15\">{}</tspan>", escaped(title)));
    out
}

/// A text at a place.
pub(crate) fn words(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    push(out, &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
}

/// A line of the file.
pub(crate) fn push(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a String cannot fail");
}

/// A text as XML has it.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
