package offline

import (
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/roles"
)

// TestRecoveryWarning checks that the warning names what this kind of recovery may lose, and nothing else.
func TestRecoveryWarning(t *testing.T) {
	for _, c := range []struct {
		name       string
		plan       roles.Recovery
		says, lies []string
	}{
		{
			"a survivor that knows all", roles.Recovery{Member: "m", LastTerm: 4, LastEntry: 9, Height: 3,
				ChainHeight: 3, Buffered: 1, Lost: []string{"n at u"}},
			[]string{"term 4, at entry 9", "3 blocks mined and has 1 record in", "neither in this log",
				"Master n at u must never",
				"protocol level 0: the other masters may be of a version that does not stop"},
			[]string{"adopts", "different block", "Snapshot", "names and tokens", "Fewer", "--new-log-key",
				"No signature"},
		},
		{
			"an older copy", roles.Recovery{LastEntry: 9, Stale: true},
			[]string{"refused because it is an older copy"}, nil,
		},
		{
			"a forked one", roles.Recovery{LastEntry: 9, Forked: true, Fork: 7, Height: 7, Source: "s", ChainHeight: 9,
				Replicas: 2, Replicated: 8},
			[]string{"a different block 7", "chain of s up to block 8",
				"Fewer than 2 storage nodes are known to have its blocks from 8 on"}, nil,
		},
		{
			"damage",
			roles.Recovery{LastEntry: 9,
				Damaged: []roles.DamagedSnapshot{{Path: "p", Aside: "a", Lost: 12, Reason: "sum"}},
				Foreign: []string{"f"}},
			[]string{"p cannot be read and is moved to a: sum", "entries 10 to 12", "node f has blocks that the group"},
			nil,
		},
		{
			"from storage", roles.Recovery{Source: "s", ChainHeight: 9, Asked: 1, Replicas: 2, Replicated: 9},
			[]string{"The log has no key", "No signature on that chain was checked", "up to block 8",
				"Only 1 storage node is named", "all idempotency keys, and names and tokens"}, []string{"Its log",
				"Fewer", "--new-log-key"},
		},
		{
			"a log that may have signed what is gone", roles.Recovery{LastEntry: 9, Origin: "example.com/log"},
			[]string{"log example.com/log continues under its keys", "use --new-log-key"}, []string{"ends: its keys"},
		},
		{
			"an undone recovery", roles.Recovery{LastEntry: 9, Undo: 2, Replaced: []roles.ReplacedChain{{URL: "s",
				From: 4, To: 9}}, Asked: 3, Storages: 3},
			[]string{"recovery to epoch 2 is UNDONE", "Storage node s has blocks 4 to 8",
				"quarantine"}, []string{"YOU confirm", "REHEARSAL"},
		},
		{
			"most storage nodes are lost", roles.Recovery{LastEntry: 9, Asked: 1, Storages: 3},
			[]string{"2 storage nodes of the table's 3 do not answer", "YOU confirm"}, []string{"UNDONE",
				"not in the table"},
		},
		{
			"most storage nodes are wiped", roles.Recovery{LastEntry: 9, Asked: 3, Others: []string{"u", "v"},
				Storages: 3},
			[]string{"At u a storage node answers that is not in the table", "At v a storage",
				"2 storage nodes of the table's 3 do not",
				"YOU confirm"}, nil,
		},
		{
			"masters that all stop", roles.Recovery{LastEntry: 9, Level: 1, Lost: []string{"n at u"}},
			[]string{"Master n at u must never"}, []string{"protocol level"},
		},
		{
			"a rehearsal", roles.Recovery{LastEntry: 9, Rehearsal: true, Group: "g", Origin: "example.com/log",
				NewLogKey: true},
			[]string{"REHEARSAL", "a separate group, g", "must be a copy", "creates a new log"}, []string{"WARNING",
				"LOST", "YOU confirm", "never run again", "example.com/log"},
		},
		{
			"another log", roles.Recovery{LastEntry: 9, Origin: "example.com/log", NewLogKey: true},
			[]string{"log example.com/log ends: its keys are left out", "another --origin"},
			[]string{"continues under"},
		},
	} {
		text := warnRecovery(c.plan)
		for _, want := range c.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", c.name, want, text)
			}
		}
		for _, not := range c.lies {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q is in\n%s", c.name, not, text)
			}
		}
	}
}

// TestWaitingText checks that the two reasons to wait have different texts.
func TestWaitingText(t *testing.T) {
	for want, w := range map[string]roles.Waiting{
		"had a recent order from a leader": {Node: "http://s", Ordered: true, Need: time.Minute},
		"was started recently":             {Node: "http://s", Need: time.Minute},
	} {
		if text := waitingText(w); !strings.Contains(text, want) || !strings.Contains(text, "http://s") ||
			!strings.Contains(text, "1m0s") {
			t.Errorf("%q, want %q", text, want)
		}
	}
}
