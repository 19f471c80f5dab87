"""What axe and the keyboard find in what a notebook adds to JupyterLab.

JupyterLab's own parts are told apart by place: axe looks at Markdown, outputs and widgets alone.
A notebook that adds nothing has no finding there, and each planted fault has one.
"""

OURS = (".jp-RenderedHTMLCommon", ".widget-vbox")
# Boxes that scroll are JupyterLab's; what is too wide for the page has a check of its own. Colours
# are its theme's: tests/chapters/rendering_rules.py lets no output and no Markdown set one.
JUPYTERLABS_OWN = {"scrollable-region-focusable", "color-contrast"}
ALSO = {"heading-order", "empty-heading"}  # less than serious for axe


def axe(page) -> list[str]:
    """Serious and critical findings, and those on headings, in what the notebook adds."""
    from axe_playwright_python.sync_playwright import Axe

    include = [[part] for part in OURS if page.locator(part).count()]
    report = Axe().run(page, context={"include": include})
    return [
        f"{v['id']}: {node['html'][:160]}"
        for v in report.response["violations"]
        if (v["impact"] in ("serious", "critical") or v["id"] in ALSO)
        and v["id"] not in JUPYTERLABS_OWN
        for node in v["nodes"]
    ]


# the next Tab goes to the first control of the box
BEFORE = """box => { const start = document.createElement('span'); start.tabIndex = -1;
    box.before(start); start.focus(); }"""
# what a focus could change: a ring, a shadow, a border, a ground
LOOK = """e => { const s = getComputedStyle(e);
    const ring = s.outlineStyle === 'none' || s.outlineWidth === '0px' ? ''
        : s.outlineStyle + s.outlineWidth + s.outlineColor;
    return [ring, s.boxShadow, s.borderColor, s.backgroundColor].join(); }"""
# a key that changes the value where it stands, and the one that takes it back
KEYS = """e => { const last = e.options ? e.selectedIndex === e.options.length - 1
        : Number(e.value) >= Number(e.max);
    const keys = e.options ? ['ArrowDown', 'ArrowUp'] : ['ArrowUp', 'ArrowDown'];
    return last ? keys.reverse() : keys; }"""


class Driver:
    """Takes every control of one widget to both ends; `silent` says what did not answer."""

    def __init__(self, page, box, patience: float):
        self.page, self.box, self.patience, self.silent = page, box, patience, []
        self.picture = box.locator("figure img")

    def answers(self, what: str, act, *arguments, **options) -> None:
        """The picture must change soon after the act."""
        before = self.picture.get_attribute("src")
        act(*arguments, **options)
        for _ in range(round(10 * self.patience)):
            self.page.wait_for_timeout(100)
            if self.picture.get_attribute("src") != before:
                return
        self.silent.append(f"{what} did not answer")

    def drive(self) -> list[str]:
        sliders = self.box.get_by_role("slider").all()
        if not sliders:
            self.silent.append("a widget without a control")
        if not self.box.locator("label, .widget-label").count():
            self.silent.append("a control without a label")
        self.walk()
        for handle in sliders:
            self.drive_slider(handle)
        for twin in self.box.locator("input[type=number]").all():
            for value in (twin.get_attribute("max"), twin.get_attribute("min")):
                self.answers(f"number field: {value}", self.fill, twin, value)
        for twin in self.box.locator("select").all():
            words = twin.locator("option").all_text_contents()
            for word in (words[0], words[-1]):  # the mouse left its slider in the upper half
                self.answers(f"list: {word}", twin.select_option, label=word)
        return self.silent

    def walk(self) -> None:
        """Tab goes through every control, in order, and leaves; each shows it and takes a key."""
        controls = self.box.locator("input, select, button").all()
        self.box.evaluate(BEFORE)
        for control in controls:
            name = control.get_attribute("aria-label") or control.evaluate("e => e.type")
            plain = control.evaluate(LOOK)
            self.page.keyboard.press("Tab")
            if not control.evaluate("e => e === document.activeElement"):
                self.silent.append(f"Tab does not reach {name}")
                return
            if control.evaluate(LOOK) == plain:
                self.silent.append(f"{name} has no visible focus")
            if control.get_attribute("type") != "range":  # drive_slider presses its keys
                up, down = control.evaluate(KEYS)
                self.answers(f"{name}: {up}", self.page.keyboard.press, up)
                self.answers(f"{name}: {down}", self.page.keyboard.press, down)
        self.page.keyboard.press("Tab")
        if self.box.evaluate("e => e.contains(document.activeElement)"):
            self.silent.append("Tab does not leave the widget")

    def drive_slider(self, handle) -> None:
        handle.scroll_into_view_if_needed()
        handle.focus()
        for key in ("End", "Home", "ArrowRight", "ArrowLeft"):
            self.answers(f"slider: {key}", handle.press, key)
        area = handle.bounding_box()
        x, y = area["x"] + 0.7 * area["width"], area["y"] + area["height"] / 2
        self.answers("slider: the mouse", self.page.mouse.click, x, y)

    @staticmethod
    def fill(field, value: str) -> None:
        field.fill(value)
        field.press("Enter")
