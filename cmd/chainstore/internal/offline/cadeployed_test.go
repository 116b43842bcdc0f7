package offline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

// writeCertificates makes an authority and the certificate of a master in a folder.
func writeCertificates(t *testing.T, dir string) (authority, node string) {
	t.Helper()
	a, err := certs.NewAuthority("bank.example", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := certs.OpenAuthority(a)
	if err != nil {
		t.Fatal(err)
	}
	n, err := opened.Issue(certs.Master, "m1", []string{"m1.example"}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, node = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "m1.pem")
	for path, data := range map[string][]byte{authority: a.Cert, node: n.Cert} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return authority, node
}

// TestDeployedCertificates checks what counts as missing: an authority that one node does not trust, a certificate that
// no node shows, and with --only what the files do not have.
func TestDeployedCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, cert := writeCertificates(t, filepath.Join(dir, "old"))
	ca2, cert2 := writeCertificates(t, filepath.Join(dir, "new"))
	both := filepath.Join(dir, "both.pem")
	var data []byte
	for _, path := range []string{ca, ca2} {
		one, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, one...)
	}
	if err := os.WriteFile(both, data, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(paths ...string) *deployment {
		t.Helper()
		d, err := readDeployment(paths)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	old, all := read(ca, cert), read(both, cert, cert2)
	var print, print2, serial, serial2 string
	for p, file := range all.authorities {
		if file != both {
			t.Errorf("authority of %s", file)
		}
		if old.authorities[p] != "" {
			print = p
		} else {
			print2 = p
		}
	}
	for s, file := range all.shown {
		if file == cert {
			serial = s
		} else {
			serial2 = s
		}
	}
	if print == "" || print2 == "" || serial == "" || serial2 == "" {
		t.Fatalf("read %+v", all)
	}
	node := func(serial, user, problem string, trusted ...string) *wire.Certificate {
		return &wire.Certificate{Serial: serial, UserSerial: user, Error: problem, Authorities: trusted}
	}
	for name, row := range map[string]struct {
		files   []string
		only    bool
		nodes   []*wire.Certificate
		missing []string // parts of the errors, in order
	}{
		"in use":        {[]string{ca, cert}, true, []*wire.Certificate{node(serial, "", "", print)}, nil},
		"as user":       {[]string{ca, cert2}, false, []*wire.Certificate{node(serial, serial2, "", print)}, nil},
		"not known":     {[]string{ca}, false, []*wire.Certificate{nil}, []string{"not known"}},
		"older version": {[]string{ca}, false, []*wire.Certificate{node(serial, "", "")}, []string{"not known"}},
		"one untrusted": {[]string{both}, false,
			[]*wire.Certificate{node(serial, "", "", print, print2), node(serial, "", "", print)},
			[]string{"does not trust the authority " + print2[:16]}},
		"not shown": {[]string{cert, cert2}, false, []*wire.Certificate{node(serial, "", "", print)},
			[]string{"no node shows the certificate in " + cert2}},
		"others": {[]string{ca2, cert2}, true,
			[]*wire.Certificate{node(serial2, serial, "", print, print2)},
			[]string{"trusts another authority, " + print[:16], "shows another certificate, with the serial number " +
				serial}},
		"not used": {[]string{ca, cert}, false, []*wire.Certificate{node(serial, "", "they do not fit", print)},
			[]string{"does not use its files: they do not fit"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := read(row.files...)
			d.only = row.only
			status := &wire.Cluster{}
			for _, c := range row.nodes { // of each kind
				status.Masters = append(status.Masters, wire.Master{URL: "https://m", Certificate: c})
			}
			list := d.missing(status)
			if len(list) != len(row.missing) {
				t.Fatalf("missing: %v, expected %q", errors.Join(list...), row.missing)
			}
			for i, part := range row.missing {
				if !strings.Contains(list[i].Error(), part) {
					t.Errorf("missing: %v, expected %q", list[i], part)
				}
			}
		})
	}
	// Nodes of every kind count.
	trusting := node(serial, "", "", print)
	status := &wire.Cluster{
		Masters:  []wire.Master{{URL: "https://m", Certificate: trusting}},
		Storages: []wire.Storage{{URL: "https://s", Certificate: trusting}, {ID: "s-1"}},
		Miners:   []wire.Miner{{URL: "https://n", Certificate: trusting}, {ID: "n-1"}},
	}
	list := old.missing(status)
	if text := errors.Join(list...).Error(); len(list) != 2 || !strings.Contains(text, "storage node s-1") ||
		!strings.Contains(text, "miner n-1") {
		t.Errorf("missing: %v", text)
	}
}
