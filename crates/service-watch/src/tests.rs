use super::*;

#[test]
fn a_report_takes_one_line() {
    for (place, message, wanted) in
        [("a.yaml:3", "bad", "a.yaml:3: bad"), ("a\nb.yaml", "bad\r\n\tthing\n", "a b.yaml: bad   thing ")]
    {
        let report = Report { place: place.to_owned(), message: message.to_owned() };
        assert_eq!(report.to_string(), wanted);
    }
}
