import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.visualize.click_map import write_click_map

HEIGHT, WIDTH = 3, 4
NAMES = ("first <b>.jpg", "</script>.jpg")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --window-size=900,900"
)


class ClickMapTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.page = self.folder / "map.html"
        self.features = rng.normal(size=(2, HEIGHT, WIDTH, 16)).astype("float32")
        self.features[0] *= 100  # only directions count
        images = rng.integers(0, 256, (2, 60, 80, 3)).astype("uint8")
        write_click_map(self.page, images, NAMES, self.features, "resnet & co")
        cells = self.features.reshape(-1, 16)
        unit = cells / np.linalg.norm(cells, axis=1, keepdims=True)
        self.cosines = unit @ unit.T

    def test_everything_is_in_the_page(self):
        text = self.page.read_text()
        self.assertNotRegex(text, r"https?://")
        self.assertNotIn("{{", text)
        self.assertIn("<h1>resnet &amp; co</h1>", text)
        found = re.search(r'type="application/json">(.*?)</script>', text, re.DOTALL)
        content = json.loads(found.group(1))
        self.assertEqual(content["names"], list(NAMES))
        self.assertEqual(content["shape"], [2, HEIGHT, WIDTH, 16])
        with self.assertRaisesRegex(ValueError, "the same length.*2, 1, 2"):
            write_click_map(self.page, np.zeros((2, 8, 8, 3)), ["a"], self.features, "t")

    @pytest.mark.slow
    def test_clicks_and_keys_in_a_browser(self):
        driver, browser = shutil.which("chromedriver"), shutil.which("chromium")
        if not driver or not browser:
            self.skipTest("needs Debian's chromium and chromium-driver")
        from selenium import webdriver
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for option in (*OPTIONS.split(), f"--user-data-dir={self.folder / 'profile'}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver)
        page = webdriver.Chrome(options=options, service=service)
        self.addCleanup(page.quit)
        page.get(self.page.as_uri())
        canvases = page.find_elements(By.TAG_NAME, "canvas")
        captions = [one.text for one in page.find_elements(By.TAG_NAME, "figcaption")]
        self.assertEqual(captions, list(NAMES))

        def pixels():
            code = "return arguments[0].getContext('2d').getImageData(0, 0, 80, 60).data"
            return [
                np.reshape(
                    page.execute_script(f"return Array.from((() => {{{code}}})())", one),
                    (60, 80, 4),
                )
                for one in canvases
            ]

        def chosen():
            return page.find_element(By.ID, "chosen").text

        def check(image, row, column):
            self.assertEqual(chosen(), f"{NAMES[image]}, row {row}, column {column}")
            query = (image * HEIGHT + row) * WIDTH + column
            shown = page.execute_script("return Array.from(chosen.cosines)")
            self.assertAllClose(shown, self.cosines[query], atol=0.02)

        plain = pixels()
        size = canvases[1].size
        # Offsets are from the middle: the cell in row 2, column 1 of the second image.
        right, down = (1.5 / WIDTH - 0.5) * size["width"], (2.5 / HEIGHT - 0.5) * size["height"]
        actions = ActionChains(page)
        actions.move_to_element_with_offset(canvases[1], int(right), int(down)).click().perform()
        check(1, 2, 1)
        for before, after in zip(plain, pixels(), strict=True):
            self.assertGreater(np.abs(before - after).mean(), 10)
        # What is alike is brighter: the colors of the other image follow the cosines.
        heat = pixels()[0][..., :3] - 0.35 * plain[0][..., :3]
        cells = heat.reshape(HEIGHT, 20, WIDTH, 20, 3).mean((1, 3, 4)).ravel()
        cosines = np.maximum(self.cosines[(HEIGHT + 2) * WIDTH + 1][: HEIGHT * WIDTH], 0)
        self.assertGreater(np.corrcoef(cells, cosines)[0, 1], 0.9)

        canvases[1].send_keys(Keys.ARROW_UP)
        check(1, 1, 1)
        for _ in range(5):
            canvases[1].send_keys(Keys.ARROW_LEFT)
        check(1, 1, 0)
        canvases[0].send_keys(Keys.ARROW_RIGHT)
        check(0, 1, 2)
        canvases[0].send_keys(Keys.ESCAPE)
        self.assertEqual(chosen(), "Nothing is chosen.")
        self.assertAllEqual(pixels()[0], plain[0])
        errors = [one for one in page.get_log("browser") if one["level"] == "SEVERE"]
        self.assertEmpty(errors)


if __name__ == "__main__":
    tf.test.main()
