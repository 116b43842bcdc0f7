package masterfsm

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestControlCharactersReplay replays the log of a cluster with control characters in keys and types. The API rejects
// such records today, but the decoder and the state machine must always accept them.
func TestControlCharactersReplay(t *testing.T) {
	var golden struct {
		State, Head, Root chain.Hash
		Height, Size      uint64
		Records           []struct {
			Block        uint64
			Offset       uint32
			Index        uint64
			Key, Type    string
			Commit, Leaf chain.Hash
		}
	}
	data, err := os.ReadFile("testdata/controls/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	commands, err := os.ReadFile("testdata/controls/commands.bin")
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	read := map[uint64]bool{} // records that were read from the state, before the storage nodes had their blocks
	for number := 0; len(commands) > 0; number++ {
		size := binary.BigEndian.Uint32(commands)
		result, err := s.Apply(commands[4 : 4+size])
		if result, err = only(result, err); err != nil {
			t.Errorf("command %d: %v, %v", number, result, err)
		}
		commands = commands[4+size:]
		for _, want := range golden.Records {
			found, _, encoded, _ := s.Record(want.Block, want.Offset)
			if found != FoundRecord || read[want.Index] {
				continue
			}
			read[want.Index] = true
			r, err := chain.ParseRecord(encoded)
			leaf := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
			if err != nil || r.Key != want.Key || r.Type != want.Type || r.Commit() != want.Commit ||
				leaf.Hash() != want.Leaf {
				t.Errorf("record %d: %+v, %v, want %+v", want.Index, r, err, want)
			}
		}
	}
	checkInvariants(t, s)
	controls := ""
	for _, r := range golden.Records {
		controls += r.Key + r.Type
	}
	if len(golden.Records) != 29 || len(read) != 29 || !strings.Contains(controls, "\x00") ||
		!strings.Contains(controls, "\x7f") {
		t.Errorf("%d records, %d of them read, with %q are no test of control characters", len(golden.Records),
			len(read), controls)
	}
	for name, s := range map[string]*State{"replayed": s, "restored": restored(t, s)} {
		if digest, err := s.Snapshot().Digest(); err != nil || digest != golden.State {
			t.Errorf("%s: the state's hash is %v, want %v: %v", name, digest, golden.State, err)
		}
		head := s.Head()
		if head.Height != golden.Height || head.Hash != golden.Head || head.Tree.Size() != golden.Size ||
			head.Tree.Root() != golden.Root {
			t.Errorf("%s: the head is %+v, want height %d, hash %v", name, head, golden.Height, golden.Head)
		}
	}
}
