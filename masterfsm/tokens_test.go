package masterfsm

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestTokensComeAndGoOnTheirOwn(t *testing.T) {
	b := newTable(t, smallSettings())
	reader := b.ok(&CreateToken{Project: 1, Label: "dash", Rights: MayRead, TokenHash: chain.Hash{7}, Time: startTime + 1}).(*Token)
	if want := (Token{ID: 2, Label: "dash", Rights: MayRead, Hash: chain.Hash{7}, Created: startTime + 1}); *reader != want {
		t.Errorf("%+v, want %+v", *reader, want)
	}
	before := b.Snapshot()
	want, _ := before.Digest()
	b.ok(&RevokeToken{Project: 1, Token: 1, Time: startTime})
	if _, ok := b.Access(chain.Hash{1}); ok {
		t.Error("a revoked token opens the project")
	}
	for _, s := range []*State{b.State, restored(t, b.State)} {
		if a, ok := s.Access(chain.Hash{7}); !ok || a.Project.ID != 1 || a.Rights != MayRead {
			t.Errorf("the other token opens %+v, %v", a, ok)
		}
	}
	// Ids are not given out again, also when the last one goes and after a snapshot.
	b.ok(&RevokeToken{Project: 1, Token: 2, Time: startTime})
	b.State = restored(t, b.State)
	if again := b.ok(&CreateToken{Project: 1, Rights: MayAppend, TokenHash: chain.Hash{7}, Time: startTime}).(*Token); again.ID != 3 {
		t.Errorf("the next token got id %d", again.ID)
	}
	if late, err := before.Digest(); err != nil || late != want {
		t.Errorf("the snapshot changed after it was taken: %v", err)
	}
}

func TestTokenRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	good := CreateToken{Project: 1, Label: strings.Repeat("l", MaxTokenLabel), Rights: MayRead, TokenHash: chain.Hash{9}, Time: startTime + 9}
	for name, row := range map[string]struct {
		change func(*CreateToken)
		want   error
	}{
		"project":      {func(c *CreateToken) { c.Project = 9 }, ErrUnknownProject},
		"label":        {func(c *CreateToken) { c.Label += "l" }, ErrBadCommand},
		"no right":     {func(c *CreateToken) { c.Rights = 0 }, ErrBadCommand},
		"other rights": {func(c *CreateToken) { c.Rights = 4 | MayRead }, ErrBadCommand},
		"in use":       {func(c *CreateToken) { c.TokenHash = chain.Hash{2} }, ErrBadCommand},
		"no hash":      {func(c *CreateToken) { c.TokenHash = chain.Hash{} }, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			row.change(&c)
			b.refused(&c, row.want)
		})
	}
	b.ok(&good)
	b.refused(&RevokeToken{Project: 9, Token: 1, Time: startTime + 9}, ErrUnknownProject)
	b.refused(&RevokeToken{Project: 2, Token: 2, Time: startTime + 9}, ErrUnknownToken)
	for n := range uint32(MaxTokens - 2) {
		c := CreateToken{Project: 1, Rights: MayRead, Time: startTime, TokenHash: chain.Hash{0xff}}
		binary.BigEndian.PutUint32(c.TokenHash[1:], n)
		if _, err := b.Apply(Encode(&c)); err != nil {
			t.Fatal(err)
		}
	}
	b.refused(&CreateToken{Project: 1, Rights: MayRead, TokenHash: chain.Hash{0xee}, Time: startTime + 9}, wire.ErrTooMany)
}

func TestWhoMayRead(t *testing.T) {
	own, other := Project{ID: 1}, Project{ID: 2}
	openOwn, openOther := Project{ID: 1, Public: true}, Project{ID: 2, Public: true}
	for _, row := range []struct {
		rights Rights
		owner  *Project
		want   bool
	}{
		{MayRead, &own, true}, {MayRead | MayAppend, &own, true}, {MayAppend, &own, false},
		{MayRead, &other, false}, {MayRead | MayAppend, &other, false}, {MayAppend, &other, false},
		{MayRead, &openOther, true}, {MayAppend, &openOther, true}, {MayAppend, &openOwn, true},
	} {
		if got := (Access{Project: own, Rights: row.rights}).MayRead(row.owner); got != row.want {
			t.Errorf("rights %b, owner %+v: %v", row.rights, row.owner, got)
		}
	}
}
