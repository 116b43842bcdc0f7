package masterfsm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// refusals lists all errors that Apply may return.
var refusals = []error{
	ErrCommand, wire.ErrBacklog, ErrUnknownProject, wire.ErrKeyReused, ErrStale, ErrNonce, wire.ErrNameTaken,
	ErrBadCommand, ErrUnknownNode, wire.ErrNotLost, wire.ErrTooFewCopies, wire.ErrRemoved,
	ErrUnknownToken, wire.ErrTooMany, ErrUnknownLogKey, wire.ErrLastKey,
}

func isRefusal(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// FuzzApply applies commands of any kind and body, with the correct checksum, to a busy table.
func FuzzApply(f *testing.F) {
	b := busyTable(f)
	base := snapshotBytes(f, b.State)
	for _, c := range append(everyCommand(), b.solved(), &Cut{Block: b.Height(), Time: startTime}) {
		f.Add(Encode(c)[4:])
	}
	f.Add(appendOf(f, "m1", 1, 1000, startTime, call{project: 1, key: "k", payloads: payloads(3, "x")})[4:])
	f.Add([]byte{99})
	f.Add(EncodeAct(leaderOrigin, saltOf(1), Encode(&RaiseLevel{Level: LevelAudit}))[4:])
	f.Add(EncodeAppend(startTime, Leadership{Term: 1}, sentParts(f, "m1", 1, 1000,
		call{project: 1, stream: "s", first: 1, payloads: payloads(3, "x")}))[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Restore(bytes.NewReader(base))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			data = []byte{0}
		}
		result, err := s.Apply(seal(append(make([]byte, 4), data...)))
		if err == nil {
			checkInvariants(t, s)
			return
		}
		if !isRefusal(err) || result != nil {
			t.Errorf("result %v, an error of another kind: %v", result, err)
		}
		if !bytes.Equal(snapshotBytes(t, s), base) {
			t.Errorf("the refusal changed the state: %v", err)
		}
	})
}

func FuzzCheckSubmission(f *testing.F) {
	f.Add(sent(f, "m1", 1, 1000, call{project: 1, key: "k", payloads: payloads(3, "x")})[4:])
	f.Add(sent(f, "", 0, 0)[4:])
	f.Add(sentParts(f, "m1", 1, 1000, call{project: 1, stream: "s", first: 7, payloads: payloads(3, "x")},
		call{project: 1, key: "k", payloads: payloads(2, "x")})[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		data = seal(append(make([]byte, 4, len(data)+5), append(data, make([]byte, max(0, 1-len(data)))...)...))
		kept := bytes.Clone(data)
		if err := CheckSubmission(data); err != nil || !bytes.Equal(data, kept) {
			if !errors.Is(err, ErrBadCommand) || !bytes.Equal(data, kept) {
				t.Errorf("%v; the bytes must stay", err)
			}
			return
		}
		sub, err := parseSubmission(kind(data[4]), data[commandHead:])
		if n := SubmissionRequests(data); err != nil || n != uint32(len(sub.requests)) {
			t.Errorf("%d requests, the submission has %d; %v", n, len(sub.requests), err)
		}
		k, body, err := checkCommand(EncodeAppend(startTime, Leadership{Term: 1, Elapsed: 7}, data, data))
		streams := kind(data[4]) == kindStreamSubmission
		if err != nil || (k == kindStreamAppend) != streams || (k == kindAppend) == streams {
			t.Fatalf("kind %d of a submission of kind %d, %v", k, data[4], err)
		}
		time, leadership, all, err := parseAppend(k, body)
		if err != nil || time != startTime || leadership != (Leadership{Term: 1, Elapsed: 7}) || len(all) != 2 {
			t.Fatalf("time %d, %d submissions, %v", time, len(all), err)
		}
		// The builder creates the same bytes from the same parts.
		again := newSubmission(nil, kind(data[4]), all[1].member, all[1].boot, all[1].seq)
		for _, q := range all[1].requests {
			again.start(q.project, q.key, q.body, q.part)
			for _, r := range q.records {
				again.AddEncoded(r.commit, r.record)
			}
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Error("built again it has other bytes")
		}
	})
}

func FuzzParsePlacements(f *testing.F) {
	f.Add(AppendPlacements(nil,
		[]Placement{{Time: 5, Replay: true, Runs: []Run{{Block: 3, Offset: 4, Count: 5, Index: 6}}}, {Err: RefusedKey},
			{Err: RefusedRate, Shortage: &Shortage{Limit: 1}}, {Err: RefusedGap, Next: 8},
			{Err: RefusedPassed, Next: 9}, {Err: RefusedStream}, {Err: RefusedForeign, Next: 7},
			{Err: RefusedClosed}}))
	f.Add(AppendPlacements(nil, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		placements, err := ParsePlacements(data)
		if err != nil {
			if !errors.Is(err, ErrBadCommand) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		again := AppendPlacements(nil, placements)
		if len(again) != len(data) {
			t.Errorf("%d bytes when encoded again, %d before", len(again), len(data))
		}
		if back, err := ParsePlacements(again); err != nil || !bytes.Equal(AppendPlacements(nil, back), again) {
			t.Errorf("not stable: %v", err)
		}
	})
}

// FuzzRestore restores arbitrary bytes with the correct checksum. Restore must never panic or allocate much more memory
// than the input.
func FuzzRestore(f *testing.F) {
	for _, s := range []*State{
		New(), newTable(f, smallSettings()).State, busyTable(f).State, streamingTable(f).State,
	} {
		data := snapshotBytes(f, s)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := seal(append(make([]byte, 4), data...))[:4]
		s, err := Restore(bytes.NewReader(append(bytes.Clone(data), sum...)))
		if err != nil {
			if !errors.Is(err, ErrSnapshot) || s != nil {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		snapshotBytes(t, s)
		s.View()
	})
}
