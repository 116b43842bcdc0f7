package nodes

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/chainstore/chainstore/internal/roles"
)

// TestRoleFlags sets every flag of each role to a non-default value and passes the configuration as arguments, like the
// development cluster. The arguments must give the same configuration.
func TestRoleFlags(t *testing.T) {
	master, parsedMaster, defaultMaster := roles.DefaultMaster(), roles.DefaultMaster(), roles.DefaultMaster()
	storage, parsedStorage, defaultStorage := roles.DefaultStorage(), roles.DefaultStorage(), roles.DefaultStorage()
	miner, parsedMiner, defaultMiner := roles.DefaultMiner(), roles.DefaultMiner(), roles.DefaultMiner()
	for name, c := range map[string]struct {
		flags, parsed, defaults []roles.Flag
		want, got               any
	}{
		"master": {master.Flags(), parsedMaster.Flags(), defaultMaster.Flags(), &master, &parsedMaster},
		"storage": {
			storage.StorageFlags(), parsedStorage.StorageFlags(), defaultStorage.StorageFlags(),
			&storage, &parsedStorage,
		},
		"miner": {miner.MinerFlags(), parsedMiner.MinerFlags(), defaultMiner.MinerFlags(), &miner, &parsedMiner},
	} {
		if args := roles.Args(c.flags, c.defaults); args != nil {
			t.Errorf("%s: the defaults need the arguments %q", name, args)
		}
		for _, f := range c.flags {
			change(t, f)
		}
		set := pflag.NewFlagSet(name, pflag.ContinueOnError)
		bindFlags(set, c.parsed)
		args := roles.Args(c.flags, c.defaults)
		if err := set.Parse(args); err != nil || set.NArg() > 0 {
			t.Errorf("%s: %q: %v", name, args, err)
		}
		set.VisitAll(func(f *pflag.Flag) {
			if !f.Changed {
				t.Errorf("%s: --%s is not among the arguments %q", name, f.Name, args)
			}
		})
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %q gives %+v, want %+v", name, args, c.got, c.want)
		}
	}
}

// change sets a flag's field to another value.
func change(t *testing.T, f roles.Flag) {
	t.Helper()
	switch v := f.Value.(type) {
	case *bool:
		*v = !*v
	case *string:
		*v += "some text"
	case *[]string:
		*v = []string{"first value", "second"}
	case *time.Duration:
		*v += 1500 * time.Millisecond
	case *int:
		*v++
	case *int64:
		*v++
	case *uint8:
		*v++
	case *uint32:
		*v++
	case *uint64:
		*v++
	case roles.Value:
		text := map[string]string{
			"key-age": "1.5s", "check-rate": "77", "min-free": "78", "warn-free": "79", "read-cache": "80",
			"tile-cache": "81",
		}[f.Name]
		if err := v.Set(text); err != nil || v.String() != text {
			t.Errorf("--%s: %q becomes %q: %v", f.Name, text, v, err)
		}
	default:
		t.Errorf("--%s has a value of type %T", f.Name, v)
	}
}

// TestEveryMasterOptionHasAFlag checks that every option has a flag. Otherwise it would be lost in a cluster of
// processes.
func TestEveryMasterOptionHasAFlag(t *testing.T) {
	var o roles.MasterOptions
	var flags []uintptr
	for _, f := range o.Flags() {
		flags = append(flags, reflect.ValueOf(f.Value).Pointer())
	}
	without := []uintptr{
		reflect.ValueOf(&o.Limits.BatchRecords).Pointer(), reflect.ValueOf(&o.Limits.BatchBytes).Pointer(),
	}
	var visit func(name string, v reflect.Value)
	visit = func(name string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				visit(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		if at := v.Addr().Pointer(); slices.Contains(flags, at) == slices.Contains(without, at) {
			t.Errorf("%s: has a flag: %v", name, slices.Contains(flags, at))
		}
	}
	visit("MasterOptions", reflect.ValueOf(&o).Elem())
}
