//! Expected values are those of Go's text/template with sprig 3.

use super::*;

fn vars() -> Vars {
    let environment = [("USER", "Ada"), ("BRANCH", "feature/Login"), ("EMPTY", "")];
    Vars::new(
        &environment
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
    )
    .with("IMAGE_TAG", "v1.2.3")
}

fn rendered(text: &str) -> String {
    render(&Template(text.to_owned()), &vars()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

#[test]
fn templates_render_as_in_go() {
    let rows = [
        ("plain {text}", "plain {text}"),
        ("{{.IMAGE_TAG}}", "v1.2.3"),
        ("{{ .USER | lower }}-{{ .IMAGE_TAG }}", "ada-v1.2.3"),
        ("{{.NOT_SET}}", "<no value>"),
        ("{{.NOT_SET | default \"dev\"}}", "dev"),
        ("{{.EMPTY | default \"dev\"}}", "dev"),
        ("{{default \"dev\" .USER}}", "Ada"),
        ("{{.BRANCH | replace \"/\" \"-\" | lower}}", "feature-login"),
        ("{{.BRANCH | trunc 7}}", "feature"),
        ("{{.BRANCH | trunc -5}}", "Login"),
        ("{{substr 0 3 .BRANCH}}", "fea"),
        ("{{.USER | quote}}", "\"Ada\""),
        ("{{.USER | squote}}", "'Ada'"),
        ("{{b64enc .USER}} {{\"QWRh\" | b64dec}}", "QWRh Ada"),
        (
            "{{sha256sum \"abc\"}}",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "{{ternary \"yes\" \"no\" (contains \"Log\" .BRANCH)}}",
            "yes",
        ),
        (
            "{{if hasPrefix \"feature/\" .BRANCH}}f{{else}}m{{end}}",
            "f",
        ),
        ("{{hasSuffix \"x\" .BRANCH}}", "false"),
        ("{{(split \"/\" .BRANCH)._1}}", "Login"),
        ("{{splitList \"/\" .BRANCH | join \"+\"}}", "feature+Login"),
        ("{{splitList \"/\" .BRANCH | last}}", "Login"),
        ("{{env \"USER\"}}{{env \"NOT_SET\"}}", "Ada"),
        ("{{expandenv \"$USER-${IMAGE_TAG}\"}}", "Ada-v1.2.3"),
        (
            "{{trimSuffix \".3\" .IMAGE_TAG}} {{trimPrefix \"v\" .IMAGE_TAG}}",
            "v1.2 1.2.3",
        ),
        ("{{coalesce .NOT_SET .EMPTY .USER}}", "Ada"),
        ("{{regexReplaceAll \"[^a-z]\" .USER \"_\"}}", "_da"),
        ("{{add 1 2 3}} {{printf \"%03d\" 7}}", "6 007"),
        ("{{title \"hello world\"}}", "Hello World"),
        ("{{trimAll \"$\" \"$5.00$\"}}", "5.00"),
    ];
    for (template, expected) in rows {
        assert_eq!(rendered(template), expected, "{template}");
    }
}

#[test]
fn a_missing_variable_can_be_an_error() {
    let strict = vars().missing(MissingKey::Error);
    let error = render(&Template("{{.NOT_SET}}".to_owned()), &strict).unwrap_err();
    assert!(matches!(error, TemplateError::Missing { name, .. } if name == "NOT_SET"));
}

#[test]
fn required_says_its_own_message() {
    let template = Template("{{required \"set NOT_SET\" .NOT_SET}}".to_owned());
    let error = render(&template, &vars()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("set NOT_SET"), "{cause}");
}

#[test]
fn programs_run_only_through_the_callers_runner() {
    let template = Template("{{cmd \"git\" \"describe\" \"--tags\"}}".to_owned());
    assert!(render(&template, &vars()).is_err());
    let runner: Runner = Arc::new(|program, args| Ok(format!("{program} {}\n", args.join(" "))));
    assert_eq!(
        render(&template, &vars().runner(runner)).unwrap(),
        "git describe --tags"
    );
}

#[test]
fn syntax_is_checked_without_rendering() {
    let template = |text: &str| Template(text.to_owned());
    assert!(check(&template("{{.A | lower}}")).is_ok());
    for bad in ["{{.A", "{{nosuchfunction .A}}", "{{if}}x{{end}}"] {
        assert!(check(&template(bad)).is_err(), "{bad} was accepted");
    }
}
