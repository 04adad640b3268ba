import time, pytest
@pytest.mark.parametrize("m",["full","lora","qlora","prompt","stacked"])
@pytest.mark.parametrize("f",["bert","distilbert","roberta"])
def test_x(tuned,f,m):
    t=time.time(); r=tuned(f,m).record
    print(f,m,round(time.time()-t,2),r.scores.accuracy,[e.train_loss for e in r.epochs],r.trainable_parameters,r.head_parameters,r.total_parameters,r.mean_tokens,r.training_s, r.step_ms_p50)
