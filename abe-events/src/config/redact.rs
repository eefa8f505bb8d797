//! What of a URL may be shown: never its credentials.

/// A query parameter whose name contains one of these holds a secret.
const SECRET_PARAMETERS: [&str; 9] = ["pass", "pwd", "secret", "token", "key", "auth", "cred", "sig", "jwt"];

/// A URL, or a text that holds URLs, without user, password and secret query parameters.
///
/// It rather hides too much: with a `@` in an unescaped password, everything up to the last `@` goes.
///
/// ```
/// use abe_events::config::redact_url;
///
/// assert_eq!(redact_url("postgres://ann:s3cret@db:5432/shop?sslmode=require"), "postgres://***@db:5432/shop?sslmode=require");
/// assert_eq!(redact_url("nats://host?token=s3cret&name=a"), "nats://host?token=***&name=a");
/// assert_eq!(redact_url("sqlite://orders.db"), "sqlite://orders.db");
/// ```
pub fn redact_url(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    // Looked for once: a long text is read once.
    let mut last_sign = text.rfind('@');
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + 3);
        shown.push_str(scheme);
        // A password may hold anything, a space, a quote and `://` too: all up to the last `@` may be part of one.
        let after = match last_sign.take_if(|sign| *sign >= text.len() - after.len()) {
            Some(sign) => {
                shown.push_str("***@");
                &text[sign + 1..]
            }
            None => after,
        };
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')).unwrap_or(after.len());
        push_redacted(&mut shown, &after[..end]);
        rest = &after[end..];
    }
    if shown.is_empty() && rest.contains('@') && rest.contains(':') {
        // `user:password@host`, given without its scheme.
        push_redacted(&mut shown, rest);
    } else {
        shown.push_str(rest);
    }
    shown
}

/// What stands behind `://`.
fn push_redacted(shown: &mut String, url: &str) {
    let rest = match url.rfind('@') {
        Some(at) => {
            shown.push_str("***@");
            &url[at + 1..]
        }
        None => url,
    };
    let Some((before, query)) = rest.split_once('?') else { return shown.push_str(rest) };
    shown.push_str(before);
    let (query, fragment) = query.split_once('#').map_or((query, None), |(query, fragment)| (query, Some(fragment)));
    for (at, parameter) in query.split('&').enumerate() {
        shown.push(if at == 0 { '?' } else { '&' });
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let lower = name.to_lowercase();
        // An escaped name is none that we can judge.
        if !value.is_empty() && (name.contains('%') || SECRET_PARAMETERS.iter().any(|secret| lower.contains(secret))) {
            shown.push_str(name);
            shown.push_str("=***");
        } else {
            shown.push_str(parameter);
        }
    }
    if let Some(fragment) = fragment {
        shown.push('#');
        shown.push_str(fragment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_credentials_is_shown() {
        for url in [
            "postgres://ann:hunter2@db/shop",
            "postgres://ann:hunter2@db/shop?password=hunter2",
            "postgres://:hunter2@db",
            "redis://hunter2@db",
            "nats://a:hunter2@h1,nats://b:hunter2@h2",
            "amqp://ann:p@hunter2@db",
            "amqp://ann:p/hunter2@db",
            "amqp://ann:p?hunter2@db",
            "amqp://ann:p#hunter2@db",
            "amqp://ann:p hunter2@db",
            "amqp://ann:p\"hunter2@db",
            "kafka://h?sasl.password=hunter2",
            "kafka://h?SSLKEY=hunter2#x",
            "kafka://h?pass%77ord=hunter2",
            "nats://h?a=b&auth_token=hunter2",
            "ann:hunter2@db:5432",
            "cannot connect to postgres://ann:hunter2@db and to redis://:hunter2@h",
            "postgres://ann:hunter2@",
            "postgres://ann:hun\"ter2 hunter2@db and redis://x:y@h",
            "postgres://ann:p://hunter2@db",
        ] {
            assert!(!redact_url(url).contains("hunter2"), "{}", redact_url(url));
        }
    }

    #[test]
    fn a_long_text_is_read_once() {
        // Read once for each of its parts, this would take hours.
        for text in ["://", ":// ", ":// @", "@", "a:b@c ", "?pass=x&"] {
            redact_url(&text.repeat(500_000));
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for url in
            ["memory://", "sqlite:///var/lib/orders.db?mode=rwc", "redis://h:6379/0#insecure", "", "nothing: here", "ann@example.org"]
        {
            assert_eq!(redact_url(url), url);
        }
        assert_eq!(redact_url("`nats://u:p@h1` and `nats://h2`"), "`nats://***@h1` and `nats://h2`");
    }
}
