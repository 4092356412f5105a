import dataclasses
import functools
import itertools
import json
import re
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval import OpenAIPolicy
from bargain_eval.arena import play
from bargain_eval.baselines import RandomPolicy
from bargain_eval.game_rows import GameRows
from bargain_eval.heuristics import ToughPolicy
from bargain_eval.llm import policy as policy_module
from bargain_eval.llm.client import Client, LlmRefused, LlmUnavailable
from bargain_eval.llm.policy import Decision, decide
from bargain_eval.llm.prompt import load_prompt
from bargain_eval.llm.request import Answer
from bargain_eval.llm.session import Session, SessionOptions, session
from bargain_eval.llm.store import BudgetReached
from bargain_eval.llm.view import PlayerView
from bargain_eval.registry import load_policy, parse_policy_string
from llm_server import ACCEPT, WALK, LlmServer, Seen, hurry
from test_llm_request import ANSWER

SPEC = GameSpec(observation="history")
SECRET = "sk-proj-THE5ECRET-0123456789"


def offer(*keep: int) -> str:
    return json.dumps({"reasoning": "A start.", "action": "offer", "keep": dict(zip("ABC", keep, strict=True))})


ALL = offer(7, 4, 1)
load_once = functools.cache(load_prompt)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(policy_module, "load_prompt", load_once)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(lambda request: ALL).running() as running:
        yield running


@pytest.fixture
def options(tmp_path: Path) -> SessionOptions:
    return SessionOptions(str(tmp_path / "calls.sqlite"), "run", timeout=5.0)


@pytest.fixture
def opened(options: SessionOptions) -> Iterator[Session]:
    with session(options) as made:
        yield made


def policy_at(server: LlmServer, model: str = "gpt-4o", **options: Any) -> OpenAIPolicy:
    return OpenAIPolicy(model, base_url=server.url, **options)


def positions(moves: int, count: int, spec: GameSpec = SPEC) -> tuple[np.ndarray, np.ndarray, list[ReferenceGame]]:
    """Returns observations, masks and games after so many random offers."""
    rng = np.random.default_rng(moves)
    games = [ReferenceGame(spec, 3, index) for index in range(count)]
    for game in games:
        for _ in range(moves):
            game.play(int(rng.integers(spec.num_offers)))
    observations, masks = ([getattr(game, name)() for game in games] for name in ("observation", "action_mask"))
    return np.array(observations), np.array(masks), games


def reply_by_state(request: Seen) -> str:
    """Accepts from the third move on, and says the same to the same request."""
    move = re.search(r"[Mm]ove (\d+) of", request.text)
    assert move, request.text
    return ACCEPT if int(move[1]) > 2 else offer(int(move[1]) + 3, 2, 0)


@pytest.mark.usefixtures("opened")
def test_one_game_is_played_as_in_the_readme(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    policy = OpenAIPolicy(model_name="gpt-4o", temperature=0.7, verbose=False)
    for moves, everything in ((0, 0), (1, SPEC.num_offers - 1)):
        obs, mask, _ = positions(moves, 1)
        action = policy.get_action(obs[0], mask[0])
        assert isinstance(action, np.int64)
        assert action == everything
    assert [request.body["temperature"] for request in server.seen] == [0.7, 0.7]
    assert policy.counts == {"schema": 2}


@pytest.mark.usefixtures("opened")
def test_a_client_of_ones_own_is_used(server: LlmServer) -> None:
    body = {"choices": [{"message": {"content": WALK}}], "model": "mock"}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=body))
    client = Client("http://mock/v1", http_client=openai.DefaultAsyncHttpxClient(transport=transport))
    obs, mask, _ = positions(0, 2)
    policy = policy_at(server, client=client)
    assert policy.get_action(obs, mask).tolist() == [SPEC.walk_action] * 2
    assert server.attempts == []


@pytest.mark.usefixtures("opened")
def test_it_plays_in_the_arena_and_a_second_time_for_free(server: LlmServer) -> None:
    server.reply = reply_by_state

    def play_game() -> GameRows:
        policy = policy_at(server)
        rows = play((policy, policy), 6, 5)
        assert policy.counts["schema"] == rows.decisions.sum()
        return rows

    first = play_game()
    calls = len(server.attempts)
    assert calls == first.decisions.sum() == 18
    again = play_game()
    assert len(server.attempts) == calls
    np.testing.assert_array_equal(first.actions, again.actions)
    expected = [int(SPEC.encode_offer((7 - 4, 4 - 2, 1))), int(SPEC.encode_offer((5, 2, 0))), SPEC.accept_action]
    assert first.actions[:, :3].tolist() == [expected] * 6
    policy = policy_at(server, seed=1)
    play((policy, policy), 6, 5)
    assert len(server.attempts) == 2 * calls


@pytest.mark.usefixtures("opened")
def test_games_and_seats_share_a_draw_only_where_all_is_the_same(server: LlmServer) -> None:
    server.reply = lambda request: WALK
    policy = policy_at(server)
    obs, mask, _ = positions(0, 2)
    twice = np.array([obs[0], obs[0], obs[1], obs[0]]), np.array([mask[0]] * 4)
    policy.get_action(*twice, game_ids=np.array([4, 5, 4, 4]))
    assert len(server.attempts) == 3
    policy.get_action(*twice)
    policy.get_action(*twice)
    assert len(server.attempts) == 3 + 4 + 4


ANSWERS = {
    "schema": [ACCEPT],
    "text": ["I think it is enough. ACCEPT"],
    "retry": ["Hm.", ACCEPT],
    "fallback": ["Hm.", "I cannot say."],
}


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("how", list(ANSWERS))
def test_an_answer_becomes_a_move_in_one_of_four_counted_ways(how: str, api: str, server: LlmServer) -> None:
    replies = iter(ANSWERS[how])
    server.reply = lambda request: next(replies)
    policy = policy_at(server, api=api)
    obs, mask, _ = positions(1, 1)
    action = policy.get_action(obs[0], mask[0])
    assert action == (SPEC.walk_action if how == "fallback" else SPEC.accept_action)
    assert policy.counts == {how: 1}
    first, *more = (request.messages for request in server.seen)
    assert [role for role, _ in first] == ["user"]
    for messages in more:
        assert messages[:2] == [*first, ("assistant", "Hm.")]
        role, text = messages[2]
        assert role == "user"
        assert "No move was found" in text
    assert len(more) == (how in ("retry", "fallback"))


@pytest.mark.usefixtures("opened")
def test_a_reply_without_words_is_asked_again_in_one_message(server: LlmServer) -> None:
    server.faults = iter(["empty"])
    obs, mask, _ = positions(0, 1)
    policy_at(server).get_action(obs, mask)
    (_, asked), (_, again) = (request.messages[0] for request in server.seen)
    assert len(server.seen[1].messages) == 1
    assert again.startswith(f"{asked}\n\n")
    assert "said no move" in again


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(("characters", "messages"), [(4000, 3), (4001, 1)])
def test_a_long_reply_is_asked_again_without_repeating_it(characters: int, messages: int, server: LlmServer) -> None:
    server.reply = lambda request: "x" * characters
    obs, mask, _ = positions(0, 1)
    policy_at(server).get_action(obs, mask)
    again = server.seen[1].messages
    assert len(again) == messages
    assert "could not be played" in again[-1][1]
    assert ("x" * characters in str(again)) == (messages == 3)


@pytest.mark.usefixtures("opened")
def test_a_reply_that_was_cut_off_is_not_repeated(server: LlmServer) -> None:
    server.faults = iter(["length"])
    obs, mask, _ = positions(0, 1)
    policy_at(server).get_action(obs, mask)
    (asked,), (again,) = (request.messages for request in server.seen)
    assert again[1].startswith(f"{asked[1]}\n\nThat reply could not be played. Your reply was cut off")


def test_the_standing_observation_is_refused_with_advice() -> None:
    game = ReferenceGame(GameSpec(), seed=0)
    policy = OpenAIPolicy("gpt-4o", base_url="http://localhost:1/v1")
    with pytest.raises(ValueError, match=r'make the game with GameSpec\(observation="history"\)\.$'):
        policy.get_action(game.observation(), game.action_mask())


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("fault", ["length", "refusal", "empty"])
def test_cut_off_and_refused_replies_count_as_no_move(fault: str, server: LlmServer) -> None:
    server.faults = itertools.repeat(fault)
    policy = policy_at(server)
    obs, mask, _ = positions(1, 3)
    assert policy.get_action(obs, mask).tolist() == [SPEC.walk_action] * 3
    assert policy.counts == {"fallback": 3}
    assert len(server.seen) == 6


def test_decide_is_a_function_of_the_view_and_the_answers_alone() -> None:
    opening = PlayerView(SPEC, 0, (10, 20, 30), 50)
    last = PlayerView(SPEC, 1, (10, 20, 30), 50, (0,) * 5)

    def answered(*texts: str | None, finish: str = "stop") -> list[Answer]:
        return [dataclasses.replace(ANSWER, text=text, finish=finish) for text in texts]

    assert decide(opening, []) == Decision(None, "ask")
    assert decide(opening, answered(ALL)) == Decision(0, "schema")
    assert decide(opening, answered(f"So:\n{ALL}")) == Decision(0, "text")
    assert decide(opening, answered("Hm.", ALL)) == Decision(0, "retry")
    assert decide(last, answered(ACCEPT)) == Decision(SPEC.accept_action, "schema")
    for view, texts, problem in ((opening, (ACCEPT, WALK + "}"), "no offer"), (last, (ALL,), "last move")):
        decision = decide(view, answered(texts[0]))
        assert (decision.action, decision.how) == (None, "ask")
        assert problem in decision.problem
    assert decide(opening, answered(ACCEPT, None)).how == "fallback"
    assert decide(opening, answered(ALL, finish="length")).how == "ask"
    assert decide(opening, answered(ALL, finish="refusal")).how == "ask"


@pytest.mark.usefixtures("opened")
def test_the_fallback_is_the_declared_policy_and_its_chance_is_fixed_by_game_and_move(server: LlmServer) -> None:
    server.reply = lambda request: "Hm."
    obs, mask, _ = positions(1, 12)
    games = np.arange(12)
    policy = policy_at(server, fallback="random")
    chosen = policy.get_action(obs, mask, game_ids=games)
    assert len(set(chosen.tolist())) > 6
    assert mask[games, chosen].all()
    order = np.random.default_rng(0).permutation(12)
    assert policy.get_action(obs[order], mask[order], game_ids=order).tolist() == chosen[order].tolist()
    again = [policy.fallback_action(obs[game], mask[game], policy.sample(game)) for game in range(12)]
    assert again == chosen.tolist()
    tough = policy_at(server, fallback="tough").get_action(obs, mask, game_ids=games)
    np.testing.assert_array_equal(tough, ToughPolicy(SPEC).get_action(obs, mask))


@pytest.mark.usefixtures("opened")
def test_a_move_that_the_mask_forbids_is_left_to_the_fallback(server: LlmServer) -> None:
    obs, mask, _ = positions(1, 1)
    mask[0, :] = False
    mask[0, 7] = True
    assert policy_at(server, fallback="random").get_action(obs, mask).tolist() == [7]


@pytest.mark.usefixtures("opened")
def test_sixteen_games_at_once_leak_nothing_between_games_and_seats(server: LlmServer, options: SessionOptions) -> None:
    """Each prompt tells the numbers of the hand of its own seat and game, and no number of any other hand."""
    spec = GameSpec(max_value=1_000_000, item_quantities=(2, 1, 1))
    together = threading.Barrier(16)

    def reply(request: Seen) -> str:
        together.wait(30)  # all games are at the server at once
        bits = sum(map(ord, request.text))
        return offer(bits % 3, bits // 3 % 2, bits // 6 % 2) if "OFFER" in request.messages[-1][1] else WALK

    server.reply = reply
    with session(dataclasses.replace(options, concurrency=16)):
        policy = policy_at(server, spec=spec)
        rows = play((policy, policy), 16, 5, spec=spec, threads=2, block_size=8)
    assert rows.decisions.sum() == len(server.seen) == 16 * spec.max_turns
    assert policy.counts == {"schema": len(server.seen)}
    assert server.most_at_once == 16
    hands = {}
    for game, seat in itertools.product(range(16), range(2)):
        hand = (*rows.values[game, seat], rows.outside[game, seat], rows.total[game, seat])
        hands[game, seat] = set(map(int, hand))
    assert len(set.union(*hands.values())) == 16 * 2 * 5  # no two are alike
    for request in server.seen:
        told = {int(number) for number in re.findall(r"[0-9]+", request.text)}
        owners = [owner for owner, hand in hands.items() if hand & told]
        assert len(owners) == 1
        assert hands[owners[0]] <= told
        assert ("You move first" in request.system) == (owners[0][1] == 0)


@pytest.mark.usefixtures("opened")
def test_what_fails_for_good_stops_the_batch(server: LlmServer, opened: Session) -> None:
    obs, mask, _ = positions(0, 24)
    server.faults = itertools.chain([""] * 5, itertools.repeat("401"))
    with pytest.raises(LlmRefused, match="refuses the key"):
        policy_at(server).get_action(obs, mask, game_ids=np.arange(24))
    assert len(server.attempts) <= 5 + 8
    assert opened.store.spent("run").calls == 5
    server.faults = iter(())
    policy_at(server).get_action(obs, mask, game_ids=np.arange(24))
    assert opened.store.spent("run").calls == 24


def test_an_outage_is_no_move(server: LlmServer, opened: Session) -> None:
    obs, mask, _ = positions(0, 2)
    server.faults = itertools.repeat("503")
    policy = policy_at(server)
    with pytest.raises(LlmUnavailable, match="HTTP 503"):
        policy.get_action(obs, mask)
    assert policy.counts == {}
    assert opened.store.spent("run").calls == 0


def test_a_limit_ends_the_game_and_keeps_what_was_answered(server: LlmServer, options: SessionOptions) -> None:
    server.reply = reply_by_state
    limited = dataclasses.replace(options, max_calls=10)
    for _ in range(2):
        with session(limited) as opened, pytest.raises(BudgetReached, match="limit of 10 calls"):
            play((policy_at(server), policy_at(server)), 6, 5)
        assert len(server.attempts) == 10
    with session(dataclasses.replace(options, max_calls=18)) as opened:
        play((policy_at(server), policy_at(server)), 6, 5)
        assert opened.store.spent("run").calls == len(server.attempts) == 18


def test_a_dry_run_bargains_to_the_last_move_and_asks_nobody(server: LlmServer, options: SessionOptions) -> None:
    with session(dataclasses.replace(options, dry_run=True)) as dry:
        policy = policy_at(server)
        rows = play((policy, policy), 10, 5)
        (plan,) = dry.planned()
    assert rows.decisions.tolist() == [SPEC.max_turns] * 10
    assert policy.counts == {"dry": 10 * SPEC.max_turns}
    assert plan.calls == 10 * SPEC.max_turns
    assert plan.cost is not None
    assert server.attempts == []


def test_blocks_in_threads_play_in_the_open_session(server: LlmServer, options: SessionOptions) -> None:
    server.reply = reply_by_state
    with session(options) as opened:
        play((policy_at(server), RandomPolicy()), 16, 5, threads=2, block_size=4)
        assert opened.store.spent("run").calls == len(server.attempts) > 0


def test_the_conversation_is_told_where_asked(
    server: LlmServer, options: SessionOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    obs, mask, _ = positions(0, 1)
    with session(options):
        policy_at(server).get_action(obs, mask)
        assert capsys.readouterr().err == ""
        policy = policy_at(server, verbose=True)
        policy.get_action(obs, mask, game_ids=np.array([7]))
        told = capsys.readouterr().err
    assert policy.prompt.state(PlayerView.from_observation(SPEC, obs[0])) in told
    assert f"[reply] {ALL}" in told
    assert "gpt-4o, game 0:7" in told


def test_the_key_is_in_no_file_no_word_and_no_error(
    server: LlmServer, options: SessionOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    obs, mask, _ = positions(0, 4)
    told = []
    with session(dataclasses.replace(options, verbose=True)):
        policy_at(server).get_action(obs, mask)
        assert {request.headers["authorization"] for request in server.seen} == {f"Bearer {SECRET}"}
        server.faults = itertools.repeat(f"401 Wrong key {SECRET}")
        with pytest.raises(LlmRefused) as caught:
            policy_at(server, seed=1).get_action(obs, mask)
        told.append("".join(traceback.format_exception(caught.value)))
        files = [path.read_bytes() for path in Path(options.store).parent.iterdir()]
    told += [str(content) for content in files] + [capsys.readouterr().err]
    assert any(b"gpt-4o" in content for content in files)
    assert ALL in told[-1]
    for text in told:
        assert "THE5ECRET" not in text


def test_a_policy_string_names_every_setting(server: LlmServer) -> None:
    text = "temperature=0&prompt=compact&effort=low&api=responses&fallback=random&max_output_tokens=700"
    policy = load_policy(f"openai:o3?{text}&base_url={server.url}&reasoning=false&summary=auto&structured=no", seed=4)
    assert isinstance(policy, OpenAIPolicy)
    assert policy.prompt.name == "compact"
    view = PlayerView(SPEC, 0, (10, 20, 30), 50)
    request = policy.request(Client(server.url, "responses"), view)
    assert request.messages == (("user", policy.prompt.state(view)),)
    assert request.system == policy.prompt.system(SPEC, 0)
    assert (request.temperature, request.reasoning_effort, request.max_output_tokens) == (0.0, "low", 700)
    assert (request.api, request.reasoning, request.summary, request.schema) == ("responses", False, "auto", None)
    assert policy.sample(7) == "4:7"
    assert policy.spec == SPEC
    mini = load_policy("openai:llama3:8b", GAMES["mini-a"])
    assert isinstance(mini, OpenAIPolicy)
    assert (mini.model_name, mini.reasoning) == ("llama3:8b", False)
    assert mini.spec.same_game(GAMES["mini-a"])


def test_a_bare_name_of_a_model_is_enough() -> None:
    for name in ("gpt-5.2-pro", "o3", "gpt-4o", "o4-mini", "chatgpt-4o-latest", "gpt-5.2-thinking"):
        assert parse_policy_string(name) == ("openai", name, {})
        assert parse_policy_string(f"{name}?effort=low") == ("openai", name, {"effort": "low"})
    policy = load_policy("o4-mini")
    assert isinstance(policy, OpenAIPolicy)
    assert (policy.model_name, policy.reasoning) == ("o4-mini", True)


def test_other_names_and_files_are_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gpt-4o").touch()
    assert parse_policy_string("gpt-4o")[0] == "checkpoint"
    for text in ("o33", "gpt", "llama3:8b", "random"):
        assert parse_policy_string(text)[0] == text.partition(":")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai", "needs a name, e.g. openai:gpt-4o"),
        ("o3?temperature=-1", "temperature must be at least 0"),
        ("o3?temperature=nan", "temperature must be at least 0"),
        ("o3?max_output_tokens=0", "max_output_tokens must be at least 1"),
        ("o3?speed=1", "has no option 'speed'; its options are temperature, effort, prompt, base_url"),
        ("o3?api=soap", "api must be auto, responses or chat"),
        ("o3?base_url=localhost", "must be like http://localhost:8000/v1"),
        ("o3?prompt=rude", "no prompt 'rude'"),
        ("o3?fallback=o3", "cannot be another one"),
        ("o3?fallback=openai:x", "cannot be another one"),
        ("o3?fallback=rude", "unknown policy 'rude'"),
    ],
)
def test_a_bad_setting_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_policy(text)
