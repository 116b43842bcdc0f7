package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/internal/devcluster"
)

func TestConnectionPrecedence(t *testing.T) {
	f := devcluster.ClusterFile{
		Masters: []string{"http://file:1"},
		Tokens:  devcluster.Tokens{Admin: "file-admin", Project: "file-project", Cluster: "file-cluster"},
	}
	named := clitest.WriteFile(t, "named.json", "")
	if err := f.Write(named); err != nil {
		t.Fatal(err)
	}
	young := f
	young.Tokens.Project = ""
	withoutProject := clitest.WriteFile(t, "young.json", "")
	if err := young.Write(withoutProject); err != nil {
		t.Fatal(err)
	}
	token := clitest.WriteFile(t, "token", "flag-token\n")

	tests := []struct {
		name    string
		c       connection
		env     map[string]string
		local   bool // a cluster file is in the default folder of dev
		masters string
		token   string
		err     string
	}{
		{name: "nothing", err: "give --cluster DIR/cluster.json, or --masters URL,… with --token-file FILE, or set " +
			"CHAINSTORE_MASTERS and CHAINSTORE_TOKEN"},
		{name: "nothing, admin", c: connection{role: AsAdmin},
			err: "--admin-token-file FILE, or set CHAINSTORE_MASTERS and CHAINSTORE_ADMIN_TOKEN"},
		{name: "environment", env: map[string]string{EnvMasters: "http://a:1, http://b:2,", EnvToken: " env-token\n"},
			masters: "http://a:1 http://b:2", token: "env-token"},
		{name: "flags before environment", c: connection{masters: []string{"http://flag:1"}, tokenFile: token},
			env: map[string]string{EnvMasters: "http://a:1", EnvToken: "env-token"}, masters: "http://flag:1",
			token: "flag-token"},
		{name: "cluster file before environment", c: connection{cluster: named},
			env: map[string]string{EnvMasters: "http://a:1", EnvToken: "env-token"}, masters: "http://file:1",
			token: "file-project"},
		{name: "single flags before the cluster file", c: connection{cluster: named, tokenFile: token},
			masters: "http://file:1", token: "flag-token"},
		{name: "admin of the cluster file", c: connection{role: AsAdmin, cluster: named}, masters: "http://file:1",
			token: "file-admin"},
		{name: "admin of the environment", c: connection{role: AsAdmin},
			env:     map[string]string{EnvMasters: "http://a:1", EnvAdminToken: "env-admin", EnvToken: "env-token"},
			masters: "http://a:1", token: "env-admin"},
		{name: "local cluster file", local: true, masters: "http://file:1", token: "file-project"},
		{name: "local cluster file, admin", c: connection{role: AsAdmin}, local: true, masters: "http://file:1",
			token: "file-admin"},
		{name: "local cluster file never gets another's token", local: true,
			env: map[string]string{EnvToken: "env-token"}, err: "no cluster is named"},
		{name: "another's masters never get the local token", local: true,
			env: map[string]string{EnvMasters: "http://a:1"}, err: "no project token is given"},
		{name: "no project yet", c: connection{cluster: withoutProject}, err: "holds no project token yet"},
		{name: "no project yet, to look", c: connection{role: AsAny, cluster: withoutProject}, masters: "http://file:1",
			token: "file-admin"},
		{name: "a founder without a token", c: connection{role: AsFounder, masters: []string{"http://a:1"}},
			env: map[string]string{EnvToken: "env-token"}, masters: "http://a:1"},
		{name: "a founder with one", c: connection{role: AsFounder, cluster: named}, masters: "http://file:1",
			token: "file-admin"},
		{name: "a founder without a cluster", c: connection{role: AsFounder}, err: "no cluster is named"},
		{name: "missing file", c: connection{cluster: "nowhere.json"},
			err: "nowhere.json: no such file or directory: 'chainstore dev' writes it"},
		{name: "no cluster file", c: connection{cluster: token}, err: "is not a cluster file"},
		{name: "missing token file", c: connection{masters: []string{"http://a:1"}, tokenFile: "nowhere"},
			err: "nowhere: no such file"},
		{name: "two tokens in a file",
			c: connection{masters: []string{"http://a:1"},
				tokenFile: clitest.WriteFile(t, "two", "s3cret-a s3cret-b")},
			err: "must hold one token"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, name := range []string{EnvMasters, EnvToken, EnvAdminToken} {
				t.Setenv(name, test.env[name])
			}
			if test.local {
				if err := os.Mkdir("chainstore-data", 0o700); err != nil {
					t.Fatal(err)
				}
				if err := f.Write(DefaultClusterFile()); err != nil {
					t.Fatal(err)
				}
			}
			masters, token, err := test.c.resolve()
			if test.err != "" {
				clitest.MustFail(t, err, test.err)
				if strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the error holds a token: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(masters, strings.Fields(test.masters)) || token != test.token {
				t.Errorf("masters %q, token %q; want %q, %q", masters, token, test.masters, test.token)
			}
		})
	}
}
