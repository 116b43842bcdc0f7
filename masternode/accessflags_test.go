package masternode

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// TestFlagsOfMastersDiffer checks that the leader reports a flag that decides what clients may do, and that only a part
// of the masters has; and that masters of versions that do not say their flags count for nothing.
func TestFlagsOfMastersDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		r := newRig(t, 1, func(c *Config, _ *rig) {
			c.Masters = masters
			c.Flags = wire.AccessFlags{Known: true, PrivateLog: true, OriginalAPI: true}
		})
		defer r.stop()
		r.join(t, masters, "m2", "m3")
		for _, c := range []struct {
			m2, m3 wire.AccessFlags
			want   []string
		}{
			{wire.AccessFlags{}, wire.AccessFlags{}, nil},
			{r.cfg.Flags, wire.AccessFlags{}, nil},
			{r.cfg.Flags, wire.AccessFlags{Known: true}, []string{
				"private-log: [m1 m2], not [m3]", "original-api: [m1 m2], not [m3]"}},
			{wire.AccessFlags{Known: true, PrivateLog: true, OriginalAPI: true, OpenRegistration: true}, r.cfg.Flags,
				[]string{"open-registration: [m2], not [m1 m3]"}},
			{r.cfg.Flags, r.cfg.Flags, nil},
		} {
			masters.mu.Lock()
			masters.flags["m2"], masters.flags["m3"] = c.m2, c.m3
			masters.mu.Unlock()
			time.Sleep(30 * time.Second)
			var got []string
			for _, m := range r.Cluster(t.Context()).NoticesCoded {
				if m.Code == wire.CodeFlagDiffers {
					got = append(got, fmt.Sprintf("%v: %v, not %v", m.Args["flag"], m.Args["with"], m.Args["without"]))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%+v, %+v: %q, want %q", c.m2, c.m3, got, c.want)
			}
		}
		masters.mu.Lock()
		masters.flags["m3"] = wire.AccessFlags{Known: true}
		masters.mu.Unlock()
		time.Sleep(30 * time.Second)
		masters.away("m3") // what it said is not used for ever
		time.Sleep(time.Minute)
		for _, m := range r.Cluster(t.Context()).NoticesCoded {
			if m.Code == wire.CodeFlagDiffers {
				t.Errorf("of a master that is gone: %v", m)
			}
		}
	})
}
