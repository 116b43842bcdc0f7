package masternode

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestCertificatesOfNodes checks that the leader shows the certificates of masters and storage nodes, has notices about
// those that end, are not used, or are out of their time, and bounds what a node says.
func TestCertificatesOfNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := func(in time.Duration) *wire.Certificate {
			return &wire.Certificate{Identity: "spiffe://bank/x", NotAfter: uint64(time.Now().Add(in).UnixMilli())}
		}
		var own atomic.Pointer[wire.Certificate]
		own.Store(ends(90 * 24 * time.Hour))
		masters := newGroupMasters()
		r := newRig(t, 3, func(c *Config, _ *rig) { c.Masters, c.Certificate = masters, own.Load })
		defer r.stop()
		r.join(t, masters, "m2", "m3")
		set := func(id string, c *wire.Certificate) {
			masters.mu.Lock()
			masters.certs[id] = c
			masters.mu.Unlock()
			time.Sleep(30 * time.Second)
		}
		node := r.Cluster(t.Context()).Storages[1]
		setStorage := func(c *wire.Certificate) {
			r.on(node.URL, func(s *masterstest.Storage) {
				s.LieStatus = func(st *wire.StorageStatus) { st.Certificate = c }
			})
			time.Sleep(30 * time.Second)
		}
		check := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, m := range r.Cluster(t.Context()).NoticesCoded {
				if strings.HasPrefix(m.Code, "certificate-") {
					got = append(got, m.Text())
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: notices %q, want %q", when, got, want)
			}
		}
		check("at first")
		set("m2", ends(36*time.Hour+time.Hour))
		check("one ends soon", "m2: its certificate ends in 36 hours: renew it")
		set("m2", ends(-time.Hour))
		check("it has ended", "m2: its certificate has ended: users refuse it, and nodes accept it only for their "+
			"--tls-grace: renew it")
		set("m2", ends(90*24*time.Hour))
		check("it was renewed")
		wrong := ends(90 * 24 * time.Hour)
		wrong.Error = "m3.pem: no authority signed it"
		set("m3", wrong)
		own.Store(&wire.Certificate{NotAfter: ends(900 * time.Hour).NotAfter, Graces: []wire.Grace{
			{Identity: "spiffe://bank/storage/s1", Left: 7200}, {Identity: "spiffe://bank/storage/s2"},
		}})
		time.Sleep(30 * time.Second)
		check("files, and graces",
			"m1 accepts spiffe://bank/storage/s1 for 2 more hours although its certificate is out of its time: renew "+
				"that, or set the clocks of both",
			"m1 refuses spiffe://bank/storage/s2, whose certificate is out of its time, since the grace is over: "+
				"renew that, or set the clocks of both",
			"m3: the new files of its certificate are not used, the ones before them still are: m3.pem: no authority "+
				"signed it")
		if m := r.Cluster(t.Context()).Masters; m[0].Certificate == nil || m[2].Certificate.Error != wrong.Error {
			t.Errorf("masters: %+v", m)
		}
		// m2 says that it has another certificate than the one that m1 has seen.
		renewed := ends(900 * time.Hour)
		renewed.Identity, renewed.Serial = "spiffe://bank/master/m2", "2"
		set("m2", renewed)
		set("m3", nil)
		own.Store(&wire.Certificate{NotAfter: ends(900 * time.Hour).NotAfter, Graces: []wire.Grace{
			{Identity: "spiffe://bank/master/m2", Serial: "1", Left: 7200},
		}})
		time.Sleep(30 * time.Second)
		check("a node that was renewed")
		own.Store(&wire.Certificate{NotAfter: ends(900 * time.Hour).NotAfter, Graces: []wire.Grace{
			{Identity: "spiffe://bank/master/m2", Serial: "2", Left: 3600},
		}})
		time.Sleep(30 * time.Second)
		check("the one that it has now",
			"m1 accepts spiffe://bank/master/m2 for 1 more hour although its certificate is out of its time: renew "+
				"that, or set the clocks of both")
		own.Store(ends(900 * time.Hour))
		set("m2", nil)
		check("it says nothing more")
		setStorage(&wire.Certificate{
			Error: strings.Repeat("x", 1<<20), NotAfter: ends(900 * time.Hour).NotAfter,
			Graces: make([]wire.Grace, 1000),
		})
		c := r.Cluster(t.Context()).Storages[1].Certificate
		if c == nil || len(c.Error) > 1000 || len(c.Graces) != wire.MaxGraces {
			t.Errorf("a storage node says much: %+v", c)
		}
	})
}
