package masterfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// seal prepends the correct checksum to the bytes of a command.
func seal(data []byte) []byte {
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	return data
}

const kindCut = 3

// commandOf returns the bytes of a command of any kind and body.
func commandOf(k kind, body string) []byte {
	return seal(append([]byte{0, 0, 0, 0, byte(k)}, body...))
}

func everyCommand() []Command {
	return []Command{
		&BeginTerm{Term: 2, Member: "m", URL: "http://m", Time: startTime, Group: "g", Settings: DefaultSettings()},
		&Cut{Block: 1, Time: startTime},
		&Mined{Block: 1, Nonce: 1<<64 - 1, Time: startTime},
		&Acknowledge{Nodes: []NodeHeight{{ID: "a", Version: 2, Height: 3}}, Time: startTime},
		&Register{Role: RoleStorage, ID: "a", URL: "u", MasterToken: "t", AccessHash: chain.Hash{1}, Boot: "b",
			Height: 3, Hash: chain.Hash{2}, Time: startTime},
		&Invalidate{ID: "a", Version: 1, Cause: TextCause("c"), Time: startTime},
		&Suspect{ID: "a", Cause: TextCause("c"), Time: startTime},
		&BeginCheck{ID: "a", Version: 1, Time: startTime},
		&EndCheck{
			ID: "a", Version: 1, Findings: []Finding{{Block: 1, What: chain.WrongFrame, Detail: TextCause("d")}},
			Bad: []chain.Range{{From: 1, To: 2}}, Unchecked: 2, Strange: true, Tiles: 3, Bytes: 4, Millis: 5,
			Time: startTime,
		},
		&BeginRepair{
			ID: "a", Version: 1, Sender: "b", SenderVersion: 2, Ticket: "t", Keep: 3,
			Missing: []chain.Range{{From: 1, To: 2}}, Time: startTime,
		},
		&EndRepair{
			ID: "a", Version: 1, Failed: TextCause("f"), Height: 2, Hash: chain.Hash{3},
			Bad: []chain.Range{{From: 1, To: 2}}, Unchecked: 1,
			Changed: TextCause("c"), Blocks: 4, Bytes: 5, Time: startTime,
		},
		&ConfirmLost{Block: 7, Time: startTime},
		&RemoveStorage{ID: "a", Force: true, Time: startTime},
		&AdmitMaster{ID: "m", URL: "http://m", Raft: "m:1", Time: startTime},
		&RemoveMaster{ID: "m", Time: startTime},
		&CreateProject{Name: "p", Public: true, Quota: Quota{RecordsPerSecond: 1}, TokenHash: chain.Hash{4},
			Time: startTime},
		&ChangeProject{Project: 1, Public: new(bool), Quota: QuotaChange{BytesPerSecond: new(uint64)}, Time: startTime},
		&CreateToken{Project: 1, Label: "l", Rights: MayAppend, TokenHash: chain.Hash{9}, Time: startTime},
		&RevokeToken{Project: 1, Token: 1, Time: startTime},
		&AddLogKey{Origin: "example.com/log", Public: chain.Hash{5}, Sealed: make([]byte, SealedLogKey), First: true,
			Time: startTime},
		&RetireLogKey{ID: "0123abcd", Time: startTime},
		&Cosign{Size: 3, Root: chain.Hash{6}, Cosignatures: []Cosignature{{Witness: "w", Line: "— w AAAAAAA="}},
			Time: startTime},
		&MarkMiners{Miners: []MinerMark{{ID: "a", Boot: "b", Dead: true}}, Time: startTime, Age: 3},
		&RemoveMiner{ID: "a", Expired: true, Time: startTime, Age: 4},
		&ChangeSettings{Change: SettingsChange{Replicas: new(uint8(3)), KeyAge: new(uint64(9))}, Time: startTime},
		&CreateAdmin{Name: "n", Role: wire.RoleOperator, TokenHash: chain.Hash{10}, Valid: 5, Time: startTime},
		&RevokeAdmin{ID: 1, Time: startTime},
		&ExpireAdmins{Time: startTime},
		joins("m", 1, 2),
		newTicket(1),
		&RevokeTicket{ID: 1, Time: startTime},
		&DecideWorker{ID: "s", Approve: true, Time: startTime},
		&CloseProject{Project: 1, Open: true, Time: startTime},
		&CloseLog{From: "a", Size: 3, Root: chain.Hash{7}, Reason: "r", Origin: "b", Public: chain.Hash{8},
			Sealed: make([]byte, SealedLogKey), Time: startTime},
		&SetTLS{From: wire.TLSAccept, To: wire.TLSPrefer, Time: startTime,
			Checked: []CheckedNode{{ID: "a", Boot: "b"}}},
	}
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range everyCommand() {
		k, body, err := checkCommand(Encode(c))
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(k, body)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%T: got %+v, %v", c, back, err)
		}
	}
}

func TestDamagedCommandsStopTheMaster(t *testing.T) {
	b := newTable(t, smallSettings())
	for _, c := range everyCommand() {
		good := Encode(c)
		for n := range good {
			if _, err := b.Apply(good[:n]); !errors.Is(err, ErrCommand) {
				t.Fatalf("%T cut to %d bytes: %v", c, n, err)
			}
		}
		for bit := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := b.Apply(bad); !errors.Is(err, ErrCommand) {
				t.Fatalf("%T, bit %d: %v", c, bit, err)
			}
		}
	}
}

func TestCommandsThatAnotherVersionWrote(t *testing.T) {
	b := newTable(t, smallSettings())
	for name, data := range map[string][]byte{
		"empty":                    nil,
		"unknown kind":             commandOf(99, "{}"),
		"kind 0":                   commandOf(0, "{}"),
		"no JSON":                  commandOf(kindCut, "{"),
		"no body":                  commandOf(kindCut, ""),
		"two values":               commandOf(kindCut, "{}{}"),
		"another type":             commandOf(kindCut, `{"block":"x"}`),
		"out of range":             commandOf(kindCut, `{"block":-1}`),
		"unknown field":            commandOf(kindCut, `{"block":0,"time":5,"force":true}`),
		"unknown field of a cause": commandOf(9, `{"id":"a","cause":{"code":"damaged","force":true},"time":5}`),
		"append of 0":              commandOf(kindAppend, ""),
		"submission":               sent(t, "m2", 1, 1, call{project: 1, payloads: []string{"x"}}),
		"many":                     commandOf(kindAppend, string(make([]byte, 8))+"\xff\xff\xff\xff"),
		"many requests": commandOf(kindAppend,
			string(make([]byte, 8))+"\x00\x00\x00\x01\x00\x00\x00\x15"+string(make([]byte, 17))+"\xff\xff\xff\xff"),
		"many records": commandOf(kindAppend,
			string(make([]byte, 8))+"\x00\x00\x00\x01\x00\x00\x00\x3d"+string(make([]byte,
				17))+"\x00\x00\x00\x01"+string(make([]byte, 36))+"\xff\xff\xff\xff"),
	} {
		t.Run(name, func(t *testing.T) { b.refusedBytes(data, ErrCommand) })
	}
}
