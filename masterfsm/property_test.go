package masterfsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// simulation applies one random sequence of commands to two states, one of which is occasionally written to a snapshot
// and restored. It also records what was promised to clients.
type simulation struct {
	t     *testing.T
	rng   *rand.Rand
	a, b  *State
	time  uint64
	seqs  map[string]uint64 // by member
	boots map[string]uint64
	sent  [][]byte // submissions that may be repeated

	v       *chain.Verifier
	heads   []chain.Head // by height
	records map[Position][]byte
	byIndex map[uint64]Position
	streams map[Digest][]Position // by project and stream, in order: block and offset alone
	handed  [][2][]byte           // bytes that the state returned, and a copy from that moment
	taken   []takenSnapshot
	shown   int // number of published checkpoints
	acts    int // records of the audit trail
}

// takenSnapshot is a snapshot that is written long after it was taken, and the bytes expected at that time.
type takenSnapshot struct {
	snapshot *Snapshot
	want     []byte
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	return &simulation{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), a: New(), b: New(), time: startTime,
		seqs: map[string]uint64{}, boots: map[string]uint64{"m1": 1, "m2": 1},
		v: chain.NewVerifier(chain.Head{}), heads: []chain.Head{{}},
		records: map[Position][]byte{}, byIndex: map[uint64]Position{}, streams: map[Digest][]Position{},
	}
}

// TestRandomCommands checks the table's guarantees with random commands. A failure names its seed, which reproduces it
// exactly:
//
//	go test ./masterfsm -run 'TestRandomCommands/seed=17$'
func TestRandomCommands(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 8
	}
	var all happenings
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			s := newSimulation(t, seed)
			s.apply(Encode(&BeginTerm{Term: 1, Member: "m1", Time: startTime, Group: "g", Settings: smallSettings()}))
			if seed%2 == 0 {
				s.apply(s.originated(Encode(&RaiseLevel{Level: ProtocolLevel, Time: startTime})))
			}
			for range 700 {
				s.apply(s.command())
				s.checkRead()
				switch s.rng.IntN(40) {
				case 0:
					s.b = restored(t, s.b)
				case 1:
					s.taken = append(s.taken, takenSnapshot{s.a.Snapshot(), snapshotBytes(t, s.a)})
				}
			}
			s.finish()
			all.add(s)
		})
	}
	// Check the totals, not each seed: some runs get settings early on under which almost nothing is accepted.
	if all.runs == seeds && !all.enough() {
		t.Errorf("too little happened in %d seeds: %+v", seeds, all)
	}
}

// happenings counts the events of a test.
type happenings struct{ runs, blocks, records, handed, snapshots, shown, keys, cosigned, streamed, acts int }

func (h *happenings) add(s *simulation) {
	h.runs++
	h.blocks += len(s.heads) - 1
	h.records += len(s.records)
	h.handed += len(s.handed)
	h.snapshots += len(s.taken)
	h.shown += s.shown
	h.acts += s.acts
	h.keys += len(s.a.Log().Keys)
	for _, numbered := range s.streams {
		h.streamed += len(numbered)
	}
	for _, c := range s.a.Cosigned() {
		h.cosigned += len(c.Cosignatures)
	}
}

// enough reports whether the runs had, on average, 20 blocks, 100 records, and some reads and snapshots to check, and
// whether there were checkpoints, keys and cosignatures.
func (h *happenings) enough() bool {
	return h.acts >= 5*h.runs &&
		h.shown >= h.runs && h.keys >= h.runs && h.cosigned >= h.runs/2 && h.streamed >= 2*h.runs &&
		h.blocks >= 20*h.runs && h.records >= 100*h.runs && h.handed >= h.runs && h.snapshots >= h.runs
}

// chance is true once in n times on average.
func (s *simulation) chance(n int) bool { return s.rng.IntN(n) == 0 }

// command returns a random command, usually one that is valid in the current state, and usually with an origin if it is
// an act.
func (s *simulation) command() []byte {
	if s.a.Level() >= LevelAudit && s.chance(30) {
		return s.originated(Encode(s.noted()))
	}
	command := s.plain()
	if s.a.Level() >= LevelAudit && s.chance(30) {
		return command
	}
	return s.originated(command)
}

// originated wraps a command if it is an act at the level of the table.
func (s *simulation) originated(command []byte) []byte {
	k, body, err := checkCommand(command)
	if err != nil {
		s.t.Fatal(err)
	}
	if k == kindAppend || k == kindStreamAppend {
		return command
	}
	c, err := decode(k, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if !NeedsOrigin(s.a.Level(), c) {
		return command
	}
	var salt [chain.SaltSize]byte
	binary.BigEndian.PutUint64(salt[:], s.rng.Uint64())
	o := trail.Origin{
		Actor:  trail.Actor{Kind: trail.ActorKind(s.rng.IntN(7)), Name: s.id()},
		Source: trail.Source{Address: "192.0.2." + fmt.Sprint(s.rng.IntN(256)), Member: "m1"},
	}
	if admins := s.a.Admins(); o.Actor.Kind == trail.ByNamed && len(admins) > 0 {
		a := admins[s.rng.IntN(len(admins))]
		o.Actor.ID, o.Actor.Name, o.Actor.Role = a.ID, a.Name, trail.RoleOf(a.Role)
	}
	return EncodeAct(o, salt, command)
}

// noted returns a command about intents, or a report.
func (s *simulation) noted() Command {
	target := trail.Target{Kind: trail.OfMaster, ID: s.id()}
	switch open := s.a.intents; {
	case len(open) > 0 && s.chance(2):
		c := &EndIntent{Index: open[s.rng.IntN(len(open))].Index, Outcome: trail.Outcome(s.rng.IntN(3)), Time: s.time}
		if s.chance(8) {
			c.Index++
		}
		return c
	case s.chance(3):
		act := trail.CertificateReload
		if s.chance(2) {
			act = trail.SecretReload
		}
		return &NoteAct{Act: act, Phase: trail.Reported, Target: target, After: pairs("value", s.rng.IntN(2)),
			Time: s.time}
	}
	acts := []trail.Act{trail.MasterPromote, trail.LeadershipTransfer, trail.CertificateReload}
	return &NoteAct{Act: acts[s.rng.IntN(len(acts))], Phase: trail.Intent, Target: target, Time: s.time}
}

// plain returns a random command without an origin.
func (s *simulation) plain() []byte {
	s.time += uint64(s.rng.IntN(50))
	time := s.time - uint64(s.rng.IntN(100)) // clocks differ
	if s.a.Level() >= LevelElapsed && s.chance(50) {
		if s.chance(2) {
			return Encode(&SetTime{Time: s.a.Now() + uint64(s.rng.IntN(1000)) - 500})
		}
		time = MaxTime + 1 + s.rng.Uint64N(1<<60)
	}
	if s.a.Level() >= LevelAdmins && s.chance(25) {
		return Encode(s.admin(time))
	}
	if s.a.Level() >= LevelJoining && s.chance(25) {
		return Encode(s.joining(time))
	}
	if s.a.Level() >= LevelTLSSteps && s.chance(50) {
		return Encode(s.tlsStep(time))
	}
	switch n := s.rng.IntN(100); {
	case n < 40:
		return s.submission(time)
	case n < 50:
		block := s.a.Height()
		if s.chance(8) {
			block += uint64(s.rng.IntN(3)) - 1
		}
		return Encode(&Cut{Block: block, Time: time})
	case n < 70:
		c := &Mined{Block: s.a.Head().Height, Nonce: s.rng.Uint64(), Time: time}
		if s.a.waiting != nil && !s.chance(8) {
			h := s.a.waiting.header
			c.Nonce, _ = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20)
		}
		return Encode(c)
	case n < 84:
		c := &Acknowledge{Time: time}
		for range 1 + s.rng.IntN(3) {
			n := NodeHeight{ID: s.id(), Version: uint64(s.rng.IntN(5)), Height: uint64(s.rng.IntN(len(s.heads) + 1))}
			if node := s.a.storage(n.ID); node != nil && !s.chance(8) {
				n.Version = node.Version
				n.Height = uint64(len(s.heads)-1) - uint64(s.rng.IntN(min(3, len(s.heads))))
			}
			c.Nodes = append(c.Nodes, n)
		}
		return Encode(c)
	case n < 87:
		if s.a.Level() >= LevelMiners && s.chance(4) {
			return Encode(s.minersMarked(time))
		}
		return s.registration(time)
	case n < 88:
		return Encode(s.cosigning(time))
	case n < 95:
		return Encode(s.integrity(time))
	case n < 96:
		switch id := s.id(); s.rng.IntN(3) {
		case 0:
			return Encode(s.master(id, time))
		case 1:
			return Encode(s.project(time))
		default:
			return Encode(&RemoveMaster{ID: id + string(rune('0'+s.rng.IntN(10))), Time: time})
		}
	case n < 97:
		switch {
		case s.chance(20):
			return Encode(s.admin(time))
		case s.a.Level() >= LevelStreamIDs && s.chance(3):
			return Encode(&OpenStream{Project: uint32(s.rng.IntN(5)), ID: s.id(), Time: time, Age: s.age()})
		}
		return Encode(s.project(time))
	case n < 98:
		if s.chance(8) {
			return Encode(&RaiseLevel{Level: uint64(s.rng.IntN(ProtocolLevel + 1)), Time: time})
		}
		return Encode(s.signing(time))
	}
	settings := smallSettings()
	settings.MaxRecords = uint32(1 + s.rng.IntN(6))
	settings.MaxBytes = uint32(200 + s.rng.IntN(2000))
	settings.MaxPendingBytes = uint64(1000 + s.rng.IntN(20_000))
	settings.RetainBytes = uint64(s.rng.IntN(3000))
	settings.Difficulty = uint8(s.rng.IntN(7))
	settings.Replicas = uint8(s.rng.IntN(4)) // 0 is refused
	settings.WitnessQuorum = uint8(s.rng.IntN(3))
	settings.MaxKeys, settings.KeyAge = uint32(s.rng.IntN(10)), uint64(s.rng.IntN(2000))
	if s.chance(2) {
		return Encode(&ChangeSettings{Time: time, Change: SettingsChange{
			MaxRecords: &settings.MaxRecords, MaxBytes: &settings.MaxBytes, MaxPendingBytes: &settings.MaxPendingBytes,
			RetainBytes: &settings.RetainBytes, Difficulty: &settings.Difficulty, Replicas: &settings.Replicas,
			MaxKeys: &settings.MaxKeys, KeyAge: &settings.KeyAge, WitnessQuorum: &settings.WitnessQuorum,
		}})
	}
	term := s.a.Term().Term + uint64(s.rng.IntN(3)) - 1
	return EncodeFor(s.a.Level(), &BeginTerm{Term: term, Member: "m2", Time: time, Settings: settings, Age: s.age()})
}

// minersMarked returns a command about dead miners.
func (s *simulation) minersMarked(time uint64) Command {
	id, age := s.id(), s.age()
	if s.chance(3) {
		age += MinerExpiry
	}
	if s.chance(3) {
		return &RemoveMiner{ID: id, Expired: s.chance(2), Time: time, Age: age}
	}
	mark := MinerMark{ID: id, Dead: !s.chance(3)}
	if m, ok := find(s.a.miners, func(m *Miner) bool { return m.ID == id }); ok && !s.chance(5) {
		mark.Boot = m.Boot
	}
	return &MarkMiners{Miners: []MinerMark{mark, {ID: s.id()}}, Time: time, Age: age}
}

// age returns an age for a command, which may be too small or absurd.
func (s *simulation) age() uint64 {
	if s.chance(10) {
		return s.rng.Uint64()
	}
	return s.a.Age() + uint64(s.rng.IntN(3000)) - min(s.a.Age(), 1000)
}

// tlsStep returns a change of the step of TLS, which may be none that is allowed.
func (s *simulation) tlsStep(time uint64) Command {
	steps := []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire}
	c := &SetTLS{From: s.a.TLS().Step, To: steps[s.rng.IntN(len(steps))], Time: time}
	for _, m := range s.a.masters {
		c.Checked = append(c.Checked, CheckedNode{ID: m.ID})
	}
	for i := range s.a.storages {
		c.Checked = append(c.Checked, CheckedNode{ID: s.a.storages[i].ID, Boot: s.a.storages[i].Boot})
	}
	for i := range s.a.miners {
		c.Checked = append(c.Checked, CheckedNode{ID: s.a.miners[i].ID, Boot: s.a.miners[i].Boot})
	}
	if s.chance(4) {
		c.From = steps[s.rng.IntN(len(steps))]
	}
	return c
}

// signing returns a command about the log's keys. Some commands refer to keys that do not exist.
func (s *simulation) signing(time uint64) Command {
	if keys := s.a.Log().Keys; len(keys) > 0 && s.chance(3) {
		return &RetireLogKey{ID: keys[s.rng.IntN(len(keys))].ID, Time: time}
	}
	c := addKey(byte(1+s.rng.IntN(20)), s.chance(2))
	c.Time = time
	return c
}

// cosigning returns cosignatures of a boundary, usually one that may be served.
func (s *simulation) cosigning(time uint64) Command {
	of := s.a.Checkpoint()
	if s.chance(4) && len(s.a.boundaries) > 0 {
		of = s.a.boundaries[s.rng.IntN(len(s.a.boundaries))]
	}
	if s.a.Level() >= LevelClosing && s.chance(6) {
		closing := closeLog(s.a.Log().Origin, "example.com/"+s.id(), byte(1+s.rng.IntN(20)), s.a.Published().Boundary)
		closing.Time = time
		return closing
	}
	c := cosign(of, s.id())
	c.Time = time
	if s.chance(2) {
		c.Origin = s.a.Log().Origin
	}
	if s.chance(8) {
		c.Root[0]++
	}
	return c
}

// project returns a command about projects, tokens and quotas. Some commands refer to objects that do not exist.
func (s *simulation) project(time uint64) Command {
	id, hash := uint32(s.rng.IntN(5)), chain.Hash{byte(s.rng.IntN(8))} // the zero hash is invalid
	switch s.rng.IntN(5) {
	case 0:
		if s.a.Level() >= LevelClosing && s.chance(2) {
			return &CloseProject{Project: id, Open: !s.chance(3), Time: time}
		}
		return &CreateToken{Project: id, Label: s.id(), Rights: Rights(s.rng.IntN(5)), TokenHash: hash, Time: time}
	case 1:
		return &RevokeToken{Project: id, Token: uint32(s.rng.IntN(6)), Time: time}
	case 2:
		rate := func() *uint64 {
			if s.chance(2) {
				return nil
			}
			rate := []uint64{0, 4, 9, 400, maxRate, maxRate + 1}[s.rng.IntN(6)]
			return &rate
		}
		public := s.chance(2)
		return &ChangeProject{Project: id, Public: &public, Quota: QuotaChange{rate(), rate(), rate()}, Time: time}
	}
	return &CreateProject{Name: fmt.Sprint("p", s.rng.IntN(6)), TokenHash: hash, Time: time}
}

// admin returns a command about named admin tokens. Some are refused.
func (s *simulation) admin(time uint64) Command {
	switch s.rng.IntN(4) {
	case 0:
		return &RevokeAdmin{ID: uint32(s.rng.IntN(12)), Time: time}
	case 1:
		return &ExpireAdmins{Time: max(time, s.a.adminExpiry()) - uint64(s.rng.IntN(2))}
	}
	roles := []string{wire.RoleAdmin, wire.RoleOperator, wire.RoleAuditor, wire.RoleCluster}
	return &CreateAdmin{
		Name: s.id(), Role: roles[s.rng.IntN(len(roles))], TokenHash: chain.Hash{1, byte(s.rng.IntN(8))},
		Valid: uint64(s.rng.IntN(1000)), Time: time,
	}
}

// master returns an announcement of a master, from protocol level 7 on with a key.
func (s *simulation) master(id string, time uint64) *AdmitMaster {
	c := &AdmitMaster{ID: id, URL: "u" + s.id(), Raft: s.id() + ":1", Take: s.chance(2), Time: time}
	if s.a.Level() >= LevelJoining && !s.chance(20) {
		c.Key, c.Start = memberKey(int(id[0])), 1+uint64(s.rng.IntN(5))
		if own, ok := find(s.a.masters, func(m *Master) bool { return m.ID == id }); ok && !s.chance(4) {
			c.Start = own.Start + 1
		}
		if s.chance(10) {
			c.Key = memberKey(s.rng.IntN(4))
		}
		switch s.rng.IntN(4) {
		case 0:
			c.Founder = true
		case 1, 2:
			c.Ticket = ticketHash(byte(s.rng.IntN(8)))
		}
	}
	return c
}

// joining returns a command about join tickets or waiting workers, or an announcement. Some are refused.
func (s *simulation) joining(time uint64) Command {
	switch s.rng.IntN(8) {
	case 5:
		on := !s.chance(4)
		return &ChangeSettings{Change: SettingsChange{ApproveWorkers: &on}, Time: time}
	case 6:
		id := s.id()
		if list := s.a.waitingWorkers; len(list) > 0 && !s.chance(4) {
			id = list[s.rng.IntN(len(list))].ID
		}
		return &DecideWorker{ID: id, Approve: !s.chance(4), Time: time}
	case 7:
		c := registers(RoleMiner, s.id()+s.id())
		c.Time, c.URL = time, "http://"+s.id()
		return c
	case 0:
		return &RevokeTicket{ID: uint32(s.rng.IntN(12)), Time: time}
	case 1, 2:
		return &CreateTicket{Name: s.id(), Hash: ticketHash(byte(s.rng.IntN(8))), Valid: uint64(s.rng.IntN(1000)),
			Time: time}
	}
	return s.master(s.id(), time)
}

// integrity returns a command about checks and repairs, usually one that matches a node's state.
func (s *simulation) integrity(time uint64) Command {
	id := s.id()
	n := Storage{ID: id, State: Invalid}
	if node := s.a.storage(id); node != nil {
		n = *node
	}
	if s.chance(8) {
		n.Version++
	}
	var bad []chain.Range
	for at := uint64(0); at < n.Height && s.chance(2); at += 2 + uint64(s.rng.IntN(3)) {
		bad = append(bad, chain.Range{From: at, To: at + 1})
	}
	if s.chance(3) && len(s.heads) > 2 {
		bad = []chain.Range{{From: 1, To: 2}} // so that sometimes all nodes lack the same block
	}
	what := s.rng.IntN(12)
	switch n.State {
	case Validating:
		var age uint64
		if s.a.Level() >= LevelElapsed {
			age = s.age()
		}
		if s.chance(3) {
			c := &EndCheck{ID: id, Version: n.Version, Aborted: s.cause(), Time: time}
			if c.Result = CheckAborted; s.chance(2) {
				c.Result = CheckNone
			}
			c.Early = n.EarlyEnds + 1
			return c
		}
		c := &EndCheck{
			ID: id, Version: n.Version, Bad: bad, Strange: s.chance(8), Tiles: uint64(s.rng.IntN(2)), Time: time,
			Findings: []Finding{{Block: 1, What: chain.WrongFrame}}, Age: age,
		}
		c.Result = c.ResultOf()
		return c
	case Receiving:
		head := s.heads[len(s.heads)-1-s.rng.IntN(min(3, len(s.heads)))]
		c := &EndRepair{ID: id, Version: n.Version, Height: head.Height, Hash: head.Hash, Bad: bad, Blocks: 1,
			Bytes: 10, Time: time}
		if s.chance(3) {
			c.Failed = s.cause()
		}
		if s.chance(4) {
			c.Unchecked = 1
		}
		return c
	case Invalid:
		if what < 9 {
			c := &BeginRepair{ID: id, Version: n.Version, Ticket: "t", Keep: n.Height, Missing: bad, Time: time}
			if sender := s.a.storage(s.id()); sender != nil {
				c.Sender, c.SenderVersion = sender.ID, sender.Version
			}
			return c
		}
	case Valid:
		if what < 8 {
			return &BeginCheck{ID: id, Version: n.Version, Time: time}
		}
	}
	switch what {
	case 9:
		return &Suspect{ID: id, Cause: s.cause(), Time: time}
	case 10:
		return &ConfirmLost{Block: uint64(s.rng.IntN(3)), Time: time}
	case 11:
		if s.chance(4) {
			return &RemoveStorage{ID: id, Force: s.chance(2), Time: time}
		}
	}
	return &Invalidate{ID: id, Version: n.Version, Cause: s.cause(), Time: time}
}

func (s *simulation) cause() Cause {
	if s.chance(2) {
		return TextCause("random")
	}
	return Cause{Code: wire.CodeWrongAnswer, Args: wire.Args{"detail": "random"}}
}

func (s *simulation) id() string { return string(rune('a' + s.rng.IntN(5))) }

func (s *simulation) submission(time uint64) []byte {
	if len(s.sent) > 0 && s.chance(6) {
		return s.sent[max(0, len(s.sent)-1-s.rng.IntN(60))] // a repetition, sometimes of a very old one
	}
	member := []string{"m1", "m2"}[s.rng.IntN(2)]
	if s.chance(40) {
		s.boots[member]++
		s.seqs[member] = 0
	}
	if s.a.Level() < LevelIdentities || !s.chance(10) { // otherwise reuse a name for other content
		s.seqs[member] += 1 + uint64(s.rng.IntN(3))
	}
	var calls []call
	for range s.rng.IntN(4) {
		c := call{project: uint32(s.rng.IntN(5))}
		if s.chance(3) {
			c.key = fmt.Sprint("key", s.rng.IntN(12))
		}
		for range 1 + s.rng.IntN(7) {
			c.payloads = append(c.payloads, fmt.Sprint(s.rng.Uint32(), strings.Repeat(".", s.rng.IntN(80))))
		}
		if c.key != "" && !s.chance(4) {
			c.payloads = []string{"the body of " + c.key, "goes with it"}
		}
		calls = append(calls, c)
	}
	term := s.a.Term().Term - uint64(s.rng.IntN(8)/7)
	var data []byte
	if s.a.Level() >= LevelStreams && s.chance(2) || s.chance(20) {
		calls = append(calls, s.part())
		data = EncodeAppend(time, Leadership{Term: term, Elapsed: max(time, startTime) - startTime},
			sentParts(s.t, member, s.boots[member], s.seqs[member], calls...))
	} else {
		data = appendBy(s.t, term, member, s.boots[member], s.seqs[member], time, calls...)
	}
	s.sent = append(s.sent, data)
	return data
}

// part returns a part of a stream, usually the next one. The number of a record determines its payload.
func (s *simulation) part() call {
	c := call{project: uint32(1 + s.rng.IntN(3)), stream: s.id()}
	c.first = uint64(len(s.streams[scopedKey(c.project, digest(c.stream))])) + 1
	switch s.rng.IntN(6) {
	case 0:
		c.first += uint64(s.rng.IntN(4)) // a gap
	case 1:
		c.first -= min(c.first, uint64(s.rng.IntN(9))) // sent before, as a whole or in part; or number 0
	}
	if s.chance(8) {
		c.token, c.without = uint32(s.rng.IntN(2)), PartFlags(s.rng.IntN(8))
	}
	for i := range 1 + s.rng.IntN(6) {
		c.payloads = append(c.payloads, fmt.Sprintf("%d/%s/%d", c.project, c.stream, c.first+uint64(i)))
	}
	return c
}

// streamed checks an accepted part: it continues its stream, or its records got their first positions.
func (s *simulation) streamed(q *request, p Placement) {
	s.t.Helper()
	name := scopedKey(q.project, q.part.Stream)
	next := uint64(len(s.streams[name])) + 1
	again := q.part.First+uint64(len(q.records)) <= next // also as a repeated submission, whose placement is no replay
	if q.part.First == 0 || !again && (q.part.First != next || p.Replay) {
		s.t.Fatalf("a part of %d records from number %d on, replay %v, the next number is %d", len(q.records),
			q.part.First, p.Replay, next)
	}
	number := q.part.First
	for _, run := range p.Runs {
		for i := range run.Count {
			at := Position{Block: run.Block, Offset: run.Offset + i}
			if !again {
				s.streams[name] = append(s.streams[name], at)
			} else if first := s.streams[name][number-1]; first != at {
				s.t.Fatalf("number %d was sent again and got %+v, at first %+v", number, at, first)
			}
			number++
		}
	}
	stream, ok := s.a.Stream(q.project, q.part.Stream)
	if !ok || stream.Last != uint64(len(s.streams[name])) {
		s.t.Fatalf("the stream's last number is %d, %d were appended", stream.Last, len(s.streams[name]))
	}
}

func (s *simulation) registration(time uint64) []byte {
	c := &Register{Role: RoleStorage, ID: s.id(), Time: time}
	c.URL = "http://" + c.ID
	switch {
	case s.chance(6):
		c.URL = "http://" + s.id() // replaces another worker
	case s.chance(4):
		c.Role = RoleMiner
	}
	if s.a.Level() >= LevelIdentities && s.chance(2) {
		c.Lists, c.Boot, c.Previous = true, fmt.Sprint(s.rng.IntN(3)), fmt.Sprint(s.rng.IntN(3))
	}
	head := s.heads[s.rng.IntN(len(s.heads))]
	if !s.chance(3) {
		head = s.heads[len(s.heads)-1-s.rng.IntN(min(3, len(s.heads)))]
	}
	c.Height, c.Hash = head.Height, head.Hash
	if s.chance(8) {
		c.Hash[0] ^= 1
	}
	if s.chance(8) {
		c.Height += uint64(s.rng.IntN(4))
	}
	return Encode(c)
}

// apply applies a command to both states, compares them, and checks the state against earlier promises.
func (s *simulation) apply(data []byte) {
	s.t.Helper()
	before, signed, shown := s.a.View(), s.a.Checkpoint(), s.a.Published().Boundary
	next := s.a.NextIndex()
	unchanged := s.chance(10)
	var bytesBefore []byte
	if unchanged {
		bytesBefore = snapshotBytes(s.t, s.a)
	}
	result, err := only(s.a.Apply(bytes.Clone(data)))
	result2, err2 := only(s.b.Apply(bytes.Clone(data)))
	if !reflect.DeepEqual(result, result2) || fmt.Sprint(err) != fmt.Sprint(err2) {
		s.t.Fatalf("the states parted: %+v, %v and %+v, %v", result, err, result2, err2)
	}
	if err != nil && unchanged && !bytes.Equal(bytesBefore, snapshotBytes(s.t, s.a)) {
		s.t.Fatalf("a refusal changed the state: %v", err)
	}
	checkInvariants(s.t, s.a)
	s.checkProgress(before)
	s.checkSigned(signed, shown)
	if placements, ok := result.([]Placement); ok {
		s.placed(data, placements)
	} else {
		s.recorded(data, next, err, before.Level < LevelAudit && s.a.Level() >= LevelAudit)
	}
	if s.a.Head().Height > before.Head.Height {
		block, ok := s.a.Block(before.Head.Height)
		if !ok { // mined and dropped at once: no node can have it yet
			s.t.Fatalf("block %d is not held after it was mined", before.Head.Height)
		}
		if _, err := s.v.Take(&block); err != nil {
			s.t.Fatal(err)
		}
		s.heads = append(s.heads, s.v.Head())
	}
	if got, want := s.a.Head(), s.v.Head(); !bytes.Equal(got.AppendTo(nil), want.AppendTo(nil)) {
		s.t.Fatalf("head %+v, the verifier has %+v", got, want)
	}
}

// recorded checks the records of an act, from a leaf index on. There are none of a command that was refused, or is no
// act. begins says that the audit trail begins with the act.
func (s *simulation) recorded(data []byte, from uint64, err error, begins bool) {
	s.t.Helper()
	wrapped, count := kind(data[commandHead-1]) == kindAct, 0
	var baseline []trail.Record
	for index := from; index < s.a.NextIndex(); index++ {
		found, at := s.a.Locate(index)
		if found == FoundSeal {
			continue
		}
		_, _, encoded, _ := s.a.Record(at.Block, at.Offset)
		r, parseErr := chain.ParseRecord(encoded)
		if parseErr != nil || r.Project != trail.ProjectID {
			s.t.Fatalf("index %d has the record %+v, %v", index, r, parseErr)
		}
		parsed, parseErr := trail.Parse(r.Payload)
		if parseErr != nil {
			s.t.Fatal(parseErr)
		}
		s.records[at], s.byIndex[index] = bytes.Clone(encoded), at
		s.acts++
		if parsed.Act == trail.Baseline {
			baseline = append(baseline, parsed)
		} else {
			count++
		}
	}
	if begins != (len(baseline) > 0) {
		s.t.Fatalf("%d records of the baseline, it begins %v", len(baseline), begins)
	}
	if begins {
		checkBaseline(s.t, s.a, baseline)
	}
	if count > 2 || count > 0 && (!wrapped || err != nil) {
		s.t.Fatalf("%d records of a command, an act %v, %v", count, wrapped, err)
	}
}

// checkProgress checks that no value goes back, and that blocks count as stored only with enough copies.
func (s *simulation) checkProgress(before View) {
	s.t.Helper()
	now := s.a.View()
	if now.Now < before.Now || now.Age < before.Age {
		s.t.Fatalf("the time went backwards: %+v after %+v", now, before)
	}
	if now.Head.Height < before.Head.Height || now.Stored < before.Stored ||
		now.HeldFrom < before.HeldFrom || now.OpenBlock < before.OpenBlock || now.Term.Term < before.Term.Term {
		s.t.Fatalf("went backwards: %+v after %+v", now, before)
	}
	copiesOf := func(height uint64) (copies int) {
		for _, n := range now.Storages {
			if n.CountsAsCopy && n.Height >= height {
				copies++
			}
		}
		return copies
	}
	if copies := copiesOf(now.Stored); now.Stored > before.Stored && copies < int(now.Settings.Replicas) {
		s.t.Fatalf("stored went from %d to %d with %d copies, %d are due: %+v",
			before.Stored, now.Stored, copies, now.Settings.Replicas, now.Storages)
	}
	if copies := copiesOf(now.HeldFrom); now.HeldFrom > before.HeldFrom && now.Level >= LevelCopies &&
		copies < int(now.Settings.Replicas) {
		s.t.Fatalf("bodies up to block %d were dropped with %d copies, %d are due: %+v",
			now.HeldFrom, copies, now.Settings.Replicas, now.Storages)
	}
}

// checkSigned checks the signed and the published checkpoint. They never go back, they are boundaries of the stored
// chain, and the published one is not newer than the signed one.
func (s *simulation) checkSigned(signed, shown Boundary) {
	s.t.Helper()
	now, published := s.a.Checkpoint(), s.a.Published()
	if now.Height < signed.Height || published.Boundary.Height < shown.Height || now.Height > s.a.Stored() ||
		published.Boundary.Height > now.Height {
		s.t.Fatalf("signed %+v after %+v, shown %+v after %+v, %d blocks are stored", now, signed, published.Boundary,
			shown, s.a.Stored())
	}
	for _, b := range []Boundary{now, published.Boundary} {
		want := s.heads[b.Height]
		if b.Size != want.Tree.Size() || b.Root != want.Tree.Root() || b.Hash != want.Hash {
			s.t.Fatalf("signed %+v, the chain has %+v there", b, want)
		}
	}
	if quorum := int(s.a.Settings().WitnessQuorum); published.Boundary.Height > shown.Height &&
		len(published.Cosignatures) < quorum {
		s.t.Fatalf("shown %+v with %d cosignatures, %d are due", published.Boundary, len(published.Cosignatures),
			quorum)
	}
	if published.Boundary.Height > shown.Height {
		s.shown++
	}
}

// placed records the positions that a submission received. No position or index may be given out twice, and a replay
// must return the positions of the first response.
func (s *simulation) placed(data []byte, placements []Placement) {
	s.t.Helper()
	k, body, err := checkCommand(data)
	if err != nil {
		s.t.Fatal(err)
	}
	_, _, all, err := parseAppend(k, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, p := range placements {
		q := &all[0].requests[i]
		if p.Err != Accepted {
			if p.Runs != nil {
				s.t.Fatalf("refused and placed: %+v", p)
			}
			continue
		}
		count := uint32(0)
		for _, run := range p.Runs {
			for n := range run.Count {
				at := Position{Block: run.Block, Offset: run.Offset + n, Index: run.Index + uint64(n)}
				if p.Replay {
					break // only the start is returned
				}
				want := bytes.Clone(q.records[count+n].record)
				chain.SetEncodedTime(want, p.Time)
				known, again := s.records[at]
				if again && !bytes.Equal(known, want) {
					s.t.Fatalf("%+v was given out twice", at)
				}
				if other, ok := s.byIndex[at.Index]; ok && other != at {
					s.t.Fatalf("index %d was given to %+v and %+v", at.Index, other, at)
				}
				s.records[at], s.byIndex[at.Index] = want, at
			}
			count += run.Count
		}
		if int(count) != len(q.records) {
			s.t.Fatalf("%d records placed, %d submitted", count, len(q.records))
		}
		if q.part.Stream != (Digest{}) {
			s.streamed(q, p)
		}
		if start := p.Runs[0]; p.Replay {
			var at Position
			for known := range s.records {
				if known.Block == start.Block && known.Offset == start.Offset {
					at = known
				}
			}
			r := bytes.Clone(q.records[0].record)
			if first, err := chain.ParseRecord(s.records[at]); err == nil {
				chain.SetEncodedTime(r, first.Time)
			}
			// In practice a retry may carry another salt. Here the same payload always has the same salt.
			if !bytes.Equal(s.records[at], r) {
				s.t.Fatalf("the replay of %q leads to other bytes at %+v", r, at)
			}
		}
	}
}

// checkRead reads one of the acknowledged records, and keeps the returned bytes.
func (s *simulation) checkRead() {
	s.t.Helper()
	next := s.a.NextIndex()
	if next == 0 {
		return
	}
	index := uint64(s.rng.Int64N(int64(next)))
	at, isRecord := s.byIndex[index]
	found, located := s.a.Locate(index)
	switch {
	case found == FoundElsewhere:
		if isRecord && at.Block >= s.a.heldFrom() {
			s.t.Fatalf("index %d of %+v should be held", index, at)
		}
		return
	case !isRecord:
		if found != FoundSeal {
			s.t.Fatalf("index %d was given to no record: %d", index, found)
		}
		return
	case found != FoundRecord || located != at:
		s.t.Fatalf("index %d: found %d at %+v, want %+v", index, found, located, at)
	}
	found, located, encoded, header := s.a.Record(at.Block, at.Offset)
	if found != FoundRecord || located != at || !bytes.Equal(encoded, s.records[at]) ||
		(header != nil) != (at.Block < s.a.Head().Height) {
		s.t.Fatalf("%+v: found %d at %+v", at, found, located)
	}
	s.handed = append(s.handed, [2][]byte{encoded, bytes.Clone(encoded)})
}

// finish runs the final checks over the whole state.
func (s *simulation) finish() {
	t := s.t
	if !bytes.Equal(snapshotBytes(t, s.a), snapshotBytes(t, s.b)) {
		t.Error("the restored state differs from the other")
	}
	checkLeaves(t, s.a)
	for _, h := range s.handed {
		if !bytes.Equal(h[0], h[1]) {
			t.Fatal("bytes that were handed out changed")
		}
	}
	for i, taken := range s.taken {
		var late bytes.Buffer
		if err := taken.snapshot.Write(&late); err != nil || !bytes.Equal(late.Bytes(), taken.want) {
			t.Errorf("snapshot %d changed after it was taken: %v", i, err)
		}
	}
	// Every index below the next one belongs to a record or, once per block, to a seal.
	seals := uint64(0)
	for index := range s.a.NextIndex() {
		if _, ok := s.byIndex[index]; !ok {
			seals++
		}
	}
	if seals != s.a.Height() || uint64(len(s.byIndex))+seals != s.a.NextIndex() || len(s.byIndex) != len(s.records) {
		t.Errorf("%d records, %d seals, %d blocks, next index %d", len(s.byIndex), seals, s.a.Height(), s.a.NextIndex())
	}
	for at := range s.records {
		if next := at.Index + 1; at.Offset > 0 {
			if before := s.byIndex[at.Index-1]; before.Block != at.Block || before.Offset+1 != at.Offset {
				t.Fatalf("%+v stands behind %+v", at, before)
			}
		} else if _, ok := s.byIndex[at.Index-1]; ok {
			t.Fatalf("no seal before %+v, next %d", at, next)
		}
	}
}

// TestSameLogSameState checks that the state depends only on the log, and not on the iteration order of maps or on when
// it was restored.
func TestSameLogSameState(t *testing.T) {
	s := newSimulation(t, 77)
	var log [][]byte
	s.apply(Encode(&BeginTerm{Term: 1, Time: startTime, Group: "g", Settings: smallSettings()}))
	for range 200 {
		c := s.command()
		log = append(log, c)
		s.apply(c)
	}
	want := snapshotBytes(t, s.a)
	for range 3 {
		again := New()
		if _, err := again.Apply(Encode(&BeginTerm{Term: 1, Time: startTime, Group: "g",
			Settings: smallSettings()})); err != nil {
			t.Fatal(err)
		}
		for _, c := range log {
			kept := bytes.Clone(c)
			_, _ = again.Apply(c)
			if !bytes.Equal(c, kept) {
				t.Fatalf("Apply wrote into the log entry of kind %d", c[4])
			}
			clear(c[binary.Size(uint32(0)):]) // Apply must not retain it
			copy(c, kept)
		}
		if !bytes.Equal(snapshotBytes(t, again), want) {
			t.Fatal("the same log gave another state")
		}
	}
}
