package config
import ("testing";"context";"os")
func TestTmp(t *testing.T){
 c,err:=Load(context.Background(),Options{File:os.Getenv("CFG"),Env:[]string{"HOME=/root"},Secrets:true})
 if err!=nil {t.Fatal(err)}
 t.Logf("%+v",c)
 for _,s:=range c.Show(){t.Logf("%+v",s)}
}
func BenchmarkLoad(b *testing.B){ for b.Loop(){ if _,err:=Load(context.Background(),Options{File:os.Getenv("CFG"),Env:[]string{"HOME=/root"}});err!=nil{b.Fatal(err)} } }
