use super::*;

fn report(text: &str) -> Report {
    let dockerfile = crate::parse(text).expect(text);
    check(&dockerfile, &|image| {
        (image == "known").then(|| vec!["HOME".to_owned()])
    })
}

fn rules(text: &str) -> Vec<(Rule, u32)> {
    report(text)
        .warnings
        .iter()
        .map(|warning| (warning.rule, warning.position.line))
        .collect()
}

/// A text that breaks a rule and one that does not, with the line of the remark; after
/// <https://docs.docker.com/reference/build-checks/>.
const CASES: &[(&str, &str, Rule, u32)] = &[
    ("FROM a AS Base", "FROM a AS base", Rule::StageNameCasing, 1),
    ("FROM a as base", "from a as base", Rule::FromAsCasing, 1),
    (
        "FROM a\nRUN x && \\\n\n y",
        "FROM a\nRUN x && \\\n# remark\n y",
        Rule::NoEmptyContinuation,
        3,
    ),
    (
        "FROM a\nRun x",
        "FROM a\nRUN x",
        Rule::ConsistentInstructionCasing,
        2,
    ),
    (
        "FROM a\nRUN x\nenv a=b",
        "from a\nrun x",
        Rule::ConsistentInstructionCasing,
        3,
    ),
    (
        "FROM a AS b\nFROM a AS b",
        "FROM a AS b\nFROM a AS c",
        Rule::DuplicateStageName,
        2,
    ),
    (
        "FROM a AS context",
        "FROM a AS contexts",
        Rule::ReservedStageName,
        1,
    ),
    (
        "FROM a\nCMD run me",
        "FROM a\nCMD [\"run\", \"me\"]",
        Rule::JSONArgsRecommended,
        2,
    ),
    (
        "FROM a\nENTRYPOINT run me",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT run me",
        Rule::JSONArgsRecommended,
        2,
    ),
    (
        "FROM a\nENV name value",
        "FROM a\nENV name=value",
        Rule::LegacyKeyValueFormat,
        2,
    ),
    (
        "FROM a\nMAINTAINER me",
        "FROM a\nLABEL maintainer=me",
        Rule::MaintainerDeprecated,
        2,
    ),
    (
        "FROM known\nUSER $NAEM",
        "FROM known\nUSER ${HOME}",
        Rule::UndefinedVar,
        2,
    ),
    (
        "FROM scratch\nUSER $HOME",
        "FROM other\nUSER $HOME",
        Rule::UndefinedVar,
        2,
    ),
    (
        "FROM $tag",
        "ARG tag\nFROM $tag",
        Rule::UndefinedArgInFrom,
        1,
    ),
    (
        "FROM --platform=$P a",
        "FROM --platform=$BUILDPLATFORM a",
        Rule::UndefinedArgInFrom,
        1,
    ),
    (
        "FROM a\nWORKDIR app",
        "FROM a\nWORKDIR /srv\nWORKDIR app",
        Rule::WorkdirRelativePath,
        2,
    ),
    (
        "FROM a\nCMD [\"x\"]\nCMD [\"y\"]",
        "FROM a\nCMD [\"x\"]\nFROM b\nCMD [\"y\"]",
        Rule::MultipleInstructionsDisallowed,
        2,
    ),
    (
        "FROM a\nEXPOSE 80:80",
        "FROM a\nEXPOSE 80",
        Rule::ExposeInvalidFormat,
        2,
    ),
    (
        "FROM a\nEXPOSE 80/TCP",
        "FROM a\nEXPOSE 80/tcp 81",
        Rule::ExposeProtoCasing,
        2,
    ),
    (
        "FROM --platform=linux/arm64 a",
        "FROM --platform=linux/arm64 a AS build-arm64",
        Rule::FromPlatformFlagConstDisallowed,
        1,
    ),
    (
        "FROM --platform=${TARGETPLATFORM} a",
        "FROM --platform=linux/$TARGETARCH a",
        Rule::RedundantTargetPlatform,
        1,
    ),
    (
        "FROM a\nARG API_TOKEN",
        "FROM a\nARG TOKENIZER",
        Rule::SecretsUsedInArgOrEnv,
        2,
    ),
    (
        "FROM a\nENV a=b PASSWORD=x",
        "FROM a\nENV a=b PUBLIC_KEY=x",
        Rule::SecretsUsedInArgOrEnv,
        2,
    ),
];

/// What can be told only when images are known.
const NOT_OF_THE_FILE: [Rule; 1] = [Rule::InvalidBaseImagePlatform];

#[test]
fn every_rule_finds_its_case_and_only_that() {
    for (bad, good, rule, line) in CASES {
        assert_eq!(rules(bad), [(*rule, *line)], "{bad}");
        assert_eq!(rules(good), [], "{good}");
    }
    let covered: BTreeSet<Rule> = CASES.iter().map(|case| case.2).collect();
    let others = covered.len() + NOT_OF_THE_FILE.len();
    assert_eq!(others, Rule::ALL.len(), "every rule has a case");
}

#[test]
fn a_default_or_an_earlier_declaration_defines_a_variable() {
    assert_eq!(
        rules("FROM known\nARG v\nENV w=$v x=${y:-z}\nWORKDIR /$w"),
        []
    );
    assert_eq!(rules("FROM known AS base\nARG v\nFROM base\nUSER $v"), []);
    let report = report("FROM known\nARG VERSION=1\nLABEL v=$VERSON");
    assert_eq!(
        report.warnings[0].message,
        "nothing declares `VERSON`; did you mean `VERSION`?"
    );
}

#[test]
fn the_check_directive_skips_rules_and_makes_remarks_fatal() {
    let text = "FROM a AS Base\nMAINTAINER me\n";
    assert_eq!(
        rules(&format!("# check=skip=StageNameCasing\n{text}")),
        [(Rule::MaintainerDeprecated, 3)]
    );
    assert_eq!(rules(&format!("# check=skip=all\n{text}")), []);
    let report = report(&format!(
        "# check=skip=maintainerdeprecated;error=true\n{text}"
    ));
    assert!(report.fail);
    assert_eq!(report.warnings.len(), 1);
}
