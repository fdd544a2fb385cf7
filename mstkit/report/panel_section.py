"""The panels of runs on the page: rows of pictures, and a slider over the epochs."""

from __future__ import annotations

from collections.abc import Sequence

from mstkit.report.markup import Html, bullets, element, several
from mstkit.report.panels import Sheet, choose, read_sheet
from mstkit.report.run import RunRecord


def panels(runs: Sequence[RunRecord], place: str, rows: int) -> Html:
    """The panels over epochs, with a slider that all runs follow; without the script all are shown."""
    sheets: list[tuple[int, RunRecord, Sheet]] = []
    damaged, left_out = [], 0
    for index, run in enumerate(runs):
        chosen = choose(run.panels)
        left_out = max(left_out, len(run.panels) - len(chosen))
        for epoch, path in chosen.items():
            sheet = read_sheet(epoch, path, rows)
            if sheet is None:
                damaged.append(f'{run.name}: {path.name} cannot be read.')
            else:
                sheets.append((index, run, sheet))
    if not sheets:
        return bullets(damaged, 'note') if damaged else Html()
    epochs = sorted({sheet.epoch for _, _, sheet in sheets})
    identity = f'{place}-slider'
    slider = element(
        'div',
        element('label', 'Panels after', for_=identity),
        element(
            'input',
            type='range',
            id=identity,
            min=0,
            max=len(epochs) - 1,
            value=len(epochs) - 1,
            data_epochs=' '.join(map(str, epochs)),
            aria_valuetext=f'epoch {epochs[-1]}',
        ),
        element('output', f'epoch {epochs[-1]}', for_=identity),
        class_='slider needs-script',
    )
    body = [_sheet(index, run, sheet, len(runs) > 1) for index, run, sheet in sheets]
    notes = [f'Of each run {left_out} more epochs are in its folder panels.'] if left_out else []
    notes.append('The same pictures throughout, as the training sees them; hidden patches are grey.')
    return element('div', slider, body, element('p', ' '.join([*notes, *damaged]), class_='note'), class_='card panels')


def _sheet(index: int, run: RunRecord, sheet: Sheet, named: bool) -> Html:
    names = list(sheet.columns)
    shares = '' if sheet.hidden is None else f'{100 * sheet.hidden:.0f} % hidden'
    titles = [f'{name} ({shares})' if name == 'mask' and shares else name for name in names]
    columns = element('ul', (element('li', title) for title in titles), class_='columns', aria_hidden='true')
    said = f'{several(titles)}, from left to right' if titles else 'the whole sheet'
    width, height = sheet.size
    pictures = [
        element(
            'img',
            src=source,
            width=width,
            height=height,
            alt=f'{run.name}, epoch {sheet.epoch}, picture {row}: {said}',
        )
        for row, source in enumerate(sheet.rows, start=1)
    ]
    title = f'{run.name}, after epoch {sheet.epoch}' if named else f'After epoch {sheet.epoch}'
    return element(
        'div',
        element('h4', title, class_=None if named else 'counted'),
        element(
            'div',
            [columns, columns] if titles else None,
            pictures,
            class_=f'sheets of{len(titles)}' if named else 'sheets',
        ),
        class_='sheet',
        data_epoch=sheet.epoch,
        data_run=index,
    )
