"""An engine on paper: it keeps the commands that doors send it, and answers what the test has laid out for it."""

from msgspec.structs import replace

from bus.client import AnswerTimeout
from trading.answers import Answer
from trading.commands import AnyCommand


class EngineOnPaper:
    """Stands where `bus.client.Client` stands. Without an answer laid out, every command is done and refers to 1."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []
        self.answers: list[Answer | None] = []
        """The next ones, in order; None for one that never comes."""

    def submit(self, command: AnyCommand, wait_s: float = 0) -> Answer:
        self.commands.append(command)
        answer = self.answers.pop(0) if self.answers else Answer(command_id="", reference=1)
        if answer is None:
            raise AnswerTimeout("no answer came in time")
        return replace(answer, command_id=command.id)

    def submit_and_follow(self, command: AnyCommand, wait_s: float = 0) -> Answer:
        return self.submit(command, wait_s)

    @property
    def last(self) -> AnyCommand:
        return self.commands[-1]
