"""The load generator's process: one command, one line of JSON."""

import json
import os
import subprocess

from contenders import LOAD_CORE


class Load:
    def __init__(self, servers):
        self.process = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), os.environ["LOADGEN"], "bench", *servers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("loadgen did not start")

    def say(self, verb, **words):
        line = " ".join([verb, *(f"{name}={value}" for name, value in words.items())])
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("loadgen ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"].replace("\n", ""))
        return answer

    def ask(self, verb, **words):
        self.say(verb, **words)
        return self.answer()

    def end(self):
        self.process.kill()
        self.process.wait()
