package storagenode
import ("testing";"fmt")
func TestDbg(t *testing.T){
	c, cfg := filled(t, 23, 40)
	n := mustOpen(t, cfg)
	remine(t,c,n,20,25)
	for i:=uint64(19);i<27;i++ { d,err:=n.Block(i); fmt.Println(i,err,string(d)==string(c.blocks[i].Bytes())) }
	fmt.Printf("%+v\n", c.checked(t,n,40))
}
