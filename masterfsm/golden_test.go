package masterfsm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// goldenEvery is the number of commands between two hashes of a golden log.
const goldenEvery = 50

// goldenLog is the log of a group at one protocol level, with the hashes of the state after every goldenEvery commands
// and after the last one. testdata/levels has its files.
type goldenLog struct {
	commands [][]byte
	hashes   []chain.Hash
	snapshot []byte // of the last state
}

// TestGoldenLogs replays a log of each protocol level. All programs must get the same states from it, and write the
// same snapshot, or the masters of a group would part during an upgrade.
func TestGoldenLogs(t *testing.T) {
	var newest uint64
	for at, name := range goldenNames {
		var level uint64
		if _, err := fmt.Sscanf(name, "level%d", &level); err != nil {
			t.Fatal(err)
		}
		newest = max(newest, level)
		t.Run(name, func(t *testing.T) {
			if os.Getenv("CHAINSTORE_WRITE_GOLDEN") == name {
				g, end := makeGolden(t, level, 1020+uint64(at))
				for seed := 1120 + uint64(at); name == "level7-joining" && !hasJoining(end); seed += 100 {
					g, end = makeGolden(t, level, seed)
				}
				g.write(t, name)
			}
			g := readGolden(t, name)
			s := New()
			hashes := g.hashes
			for i, command := range g.commands {
				_, _ = s.Apply(command) // refusals are part of the log
				if (i+1)%goldenEvery != 0 && i != len(g.commands)-1 {
					continue
				}
				if digest, err := s.Snapshot().Digest(); err != nil || digest != hashes[0] {
					t.Fatalf("after command %d the state's hash is %v, want %v: %v", i, digest, hashes[0], err)
				}
				hashes = hashes[1:]
			}
			checkInvariants(t, s)
			if name == "level7-joining" && !hasJoining(s) {
				t.Error("the log ends without a join ticket, a master or a waiting worker")
			}
			if level >= LevelAdmins && len(s.Admins()) == 0 {
				t.Error("the log ends without an admin token")
			}
			if s.Level() != level || s.Height() < 10 || len(s.IntegrityLog().Events) == 0 || len(hashes) != 0 {
				t.Errorf("level %d, %d blocks, %d events, %d hashes left", s.Level(), s.Height(),
					len(s.IntegrityLog().Events), len(hashes))
			}
			if !bytes.Equal(snapshotBytes(t, s), g.snapshot) {
				t.Error("the snapshot differs")
			}
			back, err := Restore(bytes.NewReader(g.snapshot))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(snapshotBytes(t, back), g.snapshot) {
				t.Error("the snapshot of the restored state differs")
			}
		})
	}
	if newest != ProtocolLevel {
		t.Errorf("there is no log of level %d", ProtocolLevel)
	}
}

// goldenNames are the logs in testdata/levels: the level, and a subject where it has several logs.
var goldenNames = []string{
	"level0", "level1", "level2", "level3", "level4", "level5", "level6",
	"level7", // of closed projects and logs
	"level7-joining",
}

// hasJoining reports whether a state has all that joining adds.
func hasJoining(s *State) bool {
	return min(len(s.tickets), len(s.masters), len(s.waitingWorkers)) > 0
}

// makeGolden makes a log of random commands, which leads to a state.
func makeGolden(t *testing.T, level, seed uint64) (g goldenLog, end *State) {
	t.Helper()
	s := newSimulation(t, seed)
	apply := func(command []byte) {
		s.apply(command)
		g.commands = append(g.commands, command)
		if len(g.commands)%goldenEvery == 0 {
			g.hashes = append(g.hashes, digestOf(t, s.a))
		}
	}
	apply(Encode(&BeginTerm{Term: 1, Member: "m1", Time: startTime, Group: "g", Settings: smallSettings()}))
	if level > 0 {
		apply(s.originated(Encode(&RaiseLevel{Level: level, Time: startTime})))
	}
	for len(g.commands) < 1001 {
		if command := s.command(); kindOfCommand(t, command) != kindOf(&RaiseLevel{}) {
			apply(command)
		}
	}
	g.hashes = append(g.hashes, digestOf(t, s.a))
	g.snapshot = snapshotBytes(t, s.a)
	return g, s.a
}

// kindOfCommand returns the kind of an encoded command, also of one that an act wraps.
func kindOfCommand(t *testing.T, command []byte) kind {
	t.Helper()
	k := kind(command[commandHead-1])
	if k == kindAct {
		a, err := parseAct(command[commandHead:])
		if err != nil {
			t.Fatal(err)
		}
		k = a.kind
	}
	return k
}

func digestOf(t *testing.T, s *State) chain.Hash {
	t.Helper()
	digest, err := s.Snapshot().Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func goldenFile(name, kind string) string {
	return filepath.Join("testdata", "levels", name+"."+kind)
}

func (g *goldenLog) write(t *testing.T, name string) {
	t.Helper()
	var commands bytes.Buffer
	for _, c := range g.commands {
		commands.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(c))), c...))
	}
	hashes, err := json.MarshalIndent(g.hashes, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for kind, data := range map[string][]byte{
		"commands.gz": packed(t, commands.Bytes()), "snapshot.gz": packed(t, g.snapshot), "json": append(hashes, '\n'),
	} {
		if err := os.WriteFile(goldenFile(name, kind), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readGolden(t *testing.T, name string) (g goldenLog) {
	t.Helper()
	hashes, err := os.ReadFile(goldenFile(name, "json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(hashes, &g.hashes); err != nil {
		t.Fatal(err)
	}
	g.snapshot = unpacked(t, goldenFile(name, "snapshot.gz"))
	for commands := unpacked(t, goldenFile(name, "commands.gz")); len(commands) > 0; {
		size := binary.BigEndian.Uint32(commands)
		g.commands = append(g.commands, commands[4:4+size])
		commands = commands[4+size:]
	}
	return g
}

func packed(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpacked(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
