//! The logging block: what upstream's rules say of it.

use super::FieldError;
use super::written::{LoggingFields, StreamOptions};

/// The suffixes of a quantity.
const SUFFIXES: [&str; 14] = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "m"];

/// Everything that is wrong with the block.
pub(super) fn errors(logging: &LoggingFields) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if logging.flush_frequency <= super::GoDuration::ZERO {
        let value = logging.flush_frequency.to_string();
        errors.push(FieldError::invalid("logging.flushFrequency", &value, "Must be greater than zero"));
    }
    if !matches!(logging.format.as_str(), "text" | "json") {
        errors.push(FieldError::invalid("logging.format", &logging.format, "Unsupported log format"));
    }
    if logging.format != "text" && !logging.vmodule.is_empty() {
        let problem = "Forbidden: Only supported for text log format";
        errors.push(FieldError::new("logging.vmodule", problem));
    }
    for (number, files) in logging.vmodule.iter().enumerate() {
        let path = format!("logging.vmodule[{number}]");
        let pattern = &files.file_pattern;
        if pattern.is_empty() {
            errors.push(FieldError::new(path, "Required value: File pattern must not be empty"));
        } else if pattern.contains(['=', ',']) {
            let reason = "File pattern must not contain equal sign or comma";
            errors.push(FieldError::invalid(path, pattern, reason));
        }
    }
    for (name, stream) in [("json", &logging.options.json), ("text", &logging.options.text)] {
        errors.extend(buffer_error(name, stream));
    }
    errors
}

fn buffer_error(format: &str, stream: &StreamOptions) -> Option<FieldError> {
    let size = &stream.info_buffer_size;
    let digits = size.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(size.len());
    let (number, suffix) = size.split_at(digits);
    let is_quantity = number.parse::<f64>().is_ok() && SUFFIXES.contains(&suffix);
    let path = format!("logging.options.{format}.infoBufferSize");
    (!is_quantity).then(|| FieldError::invalid(path, size, "must be a quantity, such as 4Ki"))
}
