"""The HTML of a calculator: its form, its results for the default case, a note without a script."""

from html import escape

from sizewise.chapters.tables import display

from .parts import COUNT, OWN, SHARE, Calculator, Field, Named, Result
from .worked import answered, beside, curve, evaluate, written

NO_SCRIPT = "These are the results of one case; to change it here, the page needs JavaScript."


def html(calculator: Calculator) -> str:
    """The form, hidden until the script runs, and the results as they are without it."""
    values = evaluate(calculator, {})
    commands = " and ".join(
        f"<code>{escape(command.strip())}</code>" for command in calculator.command.split(";")
    )
    return (
        f'<div class="sw-calc" id="calculator-{calculator.id}" data-calculator="{calculator.id}">\n'
        f'<form class="sw-calc__form" hidden aria-label="{escape(calculator.title)}">\n'
        f"{_paste(calculator)}{_fields(calculator)}"
        '<p class="sw-calc__buttons"><button type="button" data-do="link">Copy link</button>\n'
        '<button type="button" data-do="reset">Reset</button>\n'
        '<span class="sw-calc__said" role="status"></span></p>\n'
        "</form>\n"
        f"<noscript><p>{NO_SCRIPT} On the command line: {commands}.</p>"
        f"<p>The case: {_case(calculator)}.</p></noscript>\n"
        f'<div class="sw-calc__results" aria-live="polite">\n'
        f"{_answer(calculator, values)}{_results(calculator, values)}{_picture(calculator)}"
        f'<p class="sw-calc__note" data-note></p>\n</div>\n'
        f"{_curve(calculator)}{_note(calculator)}</div>\n"
    )


def _paste(calculator: Calculator) -> str:
    """Where a configuration can be pasted."""
    if not calculator.reads:
        return ""
    key = f"{calculator.id}-config"
    return (
        '<details class="sw-calc__paste"><summary>Paste a config.json</summary>\n'
        f'<label for="{key}">The configuration of a model on the hub</label>\n'
        f'<textarea id="{key}" data-config rows="5" spellcheck="false"></textarea>\n<p>'
        '<button type="button" data-do="read">Read it</button> '
        '<span role="status" data-config-said></span></p></details>\n'
    )


def _answer(calculator: Calculator, values: dict) -> str:
    """Yes or no, in a sentence."""
    if not calculator.answer:
        return ""
    sentence = answered(calculator, {}, values)
    exact = values[calculator.answer.value]
    return f'<p class="sw-calc__answer" data-answer data-value="{exact}">{escape(sentence)}</p>\n'


def _note(calculator: Calculator) -> str:
    note = calculator.note() if calculator.note else ""
    return f'<p class="sw-calc__basis">{escape(note)}</p>\n' if note else ""


def _case(calculator: Calculator) -> str:
    choices = {field.name: field.default for field in calculator.fields if field.kind == "choice"}
    values = [
        f"{escape(field.label[0].lower() + field.label[1:])} {escape(field.default)}"
        + (f" {escape(field.unit)}" if field.unit not in ("", COUNT, SHARE) else "")
        for field in calculator.fields
        if field.default and (not field.when or choices.get(field.when) == OWN)
    ]
    return ", ".join(values)


def _fields(calculator: Calculator) -> str:
    parts, group = [], ""
    for field in calculator.fields:
        if field.when != group:
            parts.append("</fieldset>\n" if group else "")
            if field.when:
                parent = next(other for other in calculator.fields if other.name == field.when)
                parts.append(
                    f'<fieldset class="sw-calc__own" data-when="{field.when}" hidden>'
                    f"<legend>{escape(parent.own[0].upper() + parent.own[1:])}</legend>\n"
                )
            group = field.when
        parts.append(_field(calculator, field))
    return "".join(parts) + ("</fieldset>\n" if group else "")


def _field(calculator: Calculator, field: Field) -> str:
    key = f"{calculator.id}-{field.name}"
    described = f'aria-describedby="{key}-help {key}-error"'
    if field.kind == "choice":
        options = _options(calculator, field)
        control = f'<select id="{key}" name="{field.name}" {described}>{options}</select>'
    else:
        control = (
            f'<input id="{key}" name="{field.name}" type="text" inputmode="text" size="9" '
            f'autocomplete="off" spellcheck="false" value="{escape(field.default)}" {described}>'
        )
    help_words = f"{escape(field.help)} " if field.help else ""
    label = f"{escape(field.label)}{_unit(field)}"
    return (
        f'<div class="sw-calc__field"><label for="{key}">{label}</label>\n'
        f"{control}\n"
        f'<p class="sw-calc__help" id="{key}-help">{help_words}'
        f'<span data-read="{field.name}"></span></p>'
        f'<p class="sw-calc__error" id="{key}-error"></p></div>\n'
    )


def _unit(field: Field) -> str:
    return f' <span class="sw-calc__unit">({escape(field.unit)})</span>' if field.unit else ""


def _options(calculator: Calculator, field: Field) -> str:
    names = [name for name in calculator.tables[field.table]() if name != OWN]
    options = [(OWN, field.own)] * bool(field.own)
    options += [(name, display.written(name)) for name in names]
    return "".join(
        f'<option value="{escape(name)}"{" selected" if name == field.default else ""}>'
        f"{escape(words)}</option>\n"  # the search takes words apart at white space alone
        for name, words in options
    )


def _results(calculator: Calculator, values: dict) -> str:
    lines = [line for line in calculator.results if not line.each]
    body = "".join(
        f'<tr{_main(line)}><th scope="row">{escape(line.label)}</th>\n{_cell(line, values)}</tr>\n'
        for line in lines
    )
    # The heading above says the same, but a screen reader may come to the table without it.
    caption = f'<caption class="sw-unseen">{escape(calculator.title)}</caption>\n'
    table = f'<table class="sw-table sw-calc__table">{caption}<tbody>\n{body}</tbody></table>\n'
    if calculator.beside:
        cases = beside(calculator, {})
        names = {name: Named(((display.written(name), ""),)) for name in cases}
        rows = _rows(calculator, "Device", names, cases, calculator.beside)
        return table + _folded(calculator.caption, rows)
    if calculator.rows:
        cases = {row["name"]: values | row for row in values[calculator.rows]}
        return table + _rows(calculator, "Law", calculator.names(), cases)
    return table


def _folded(summary: str, rows: str) -> str:
    words = f"<summary>{escape(summary)}</summary>"
    return f'<details class="sw-calc__beside">{words}\n{rows}</details>\n'


def _curve(calculator: Calculator) -> str:
    """The place of the curve, which the script draws; its slider; its numbers as a table."""
    if not (shown := calculator.curve):
        return ""
    field = next(field for field in calculator.fields if field.name == shown.field)
    key, last = f"{calculator.id}-{field.name}-slide", len(shown.points) - 1
    lines = [result for result in calculator.results if result.each == field.name][: shown.drawn]
    legend = "".join(
        f'<span class="sw-calc__key sw-calc__key--line-{place}">{escape(result.label)}</span>\n'
        for place, result in enumerate(lines)
    )
    cases = curve(calculator, {})
    names = {name: Named(((name, ""),)) for name in cases}
    caption = escape(shown.caption)
    rows = _rows(calculator, field.label, names, cases, field.name, caption)
    return (
        f'<figure class="sw-calc__curve" data-curve>\n'
        f'<figcaption>{escape(shown.title)}</figcaption>\n<p class="sw-calc__legend">{legend}</p>\n'
        f'<div class="sw-calc__plot" role="img" aria-label="{escape(shown.title)}"></div>\n'
        f'<label for="{key}">{escape(field.label)}{_unit(field)}</label>\n<input type="range" '
        f'id="{key}" min="0" max="{last}" step="1" value="0" data-slide></figure>\n'
        f"{_folded(shown.caption, rows)}"
    )


def _rows(
    calculator: Calculator, head: str, names: dict, cases: dict, field: str = "", caption: str = ""
) -> str:
    """The table with a line for each case; where a ``field`` tells them apart, a summary above
    has said its caption already.
    """
    each, caption = field or calculator.rows, escape(caption or calculator.caption)
    mark = f' data-beside="{field}"' if field else ""
    columns = [column for column in calculator.results if column.each == each]
    heads = "\n".join(f'<th scope="col">{escape(column.label)}</th>' for column in columns)
    hidden = ' class="sw-unseen"' if mark else ""
    body = "".join(
        f'<tr data-row="{escape(name)}"{mark}><th scope="row">{_named(names[name])}</th>\n'
        + "\n".join(_cell(column, values, head=True) for column in columns)
        + "</tr>\n"
        for name, values in cases.items()
    )
    return (
        f'<table class="sw-table sw-calc__rows"><caption{hidden}>{caption}'
        f'</caption>\n<thead><tr><th scope="col">{head}</th>\n{heads}</tr></thead><tbody>\n{body}'
        "</tbody></table>\n"
    )


def _named(name: Named) -> str:
    return "".join(
        f'<a href="{escape(address)}">{escape(words)}</a>' if address else escape(words)
        for words, address in name.parts
    )


def _main(result: Result) -> str:
    return ' class="sw-calc__main"' if result.main else ""


def _cell(column: Result, case: dict, head: bool = False) -> str:
    """A value; with ``head`` it carries its column's head, for a phone that shows no columns."""
    values = [case.get(name) for name in column.values]
    exact = " ".join("" if value is None else str(value) for value in values)
    text = escape(written(values, column.unit, column.missing))
    label = f' data-label="{escape(column.label)}"' if head else ""
    names = " ".join(column.values)
    return f'<td data-names="{names}" data-value="{escape(exact)}"{label}>{text}</td>'


def _picture(calculator: Calculator) -> str:
    """Bars that the script draws: what fills the devices."""
    return '<div class="sw-calc__picture" data-picture></div>\n' if calculator.picture else ""
